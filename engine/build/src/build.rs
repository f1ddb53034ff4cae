use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_image::{Image, ImageStore};
use engine_types::Reference;
use futures::future::try_join_all;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use tokio::sync::{Mutex, OnceCell, watch};

use crate::cache::BuildCache;
use crate::cancel::CancelOnDrop;
use crate::diagnostic::Diagnostic;
use crate::dockerfile;
use crate::error::{BuildError, Problem};
use crate::files::FileHashes;
use crate::gather::{Context, Origin};
use crate::ignore::Ignore;
use crate::layers::{Finished, Outcome};
use crate::plan::{Plan, near_stage};
use crate::request::{BuildEvent, BuildRequest, Built};
use crate::rootfs::Dir;
use crate::sandbox::Sandbox;
use crate::stage::StageBuild;

/// The name of the Dockerfile in the context.
const DOCKERFILE: &str = "Dockerfile";

/// What the stages of one build have in common.
pub(crate) struct Shared<'a, S> {
    pub(crate) store: &'a ImageStore,
    pub(crate) sandbox: &'a S,
    pub(crate) request: &'a BuildRequest,
    pub(crate) progress: &'a (dyn Fn(BuildEvent) + Sync),
    pub(crate) plan: Plan,
    pub(crate) cache: BuildCache,
    pub(crate) context: Origin,
    pub(crate) files: Arc<FileHashes>,
    pub(crate) cancelled: CancelOnDrop,
    /// The stages, by number.
    stages: Vec<watch::Sender<Outcome>>,
    /// The images asked for, so that each is pulled once.
    images: Mutex<HashMap<Reference, Arc<OnceCell<Image>>>>,
}

/// Builds an image. Nothing is named: the caller tags what it gets.
///
/// Dropping the future ends the build and removes what is unfinished; finished layers stay in the cache.
///
/// # Errors
/// See [`BuildError`]. Layers of the steps before the failed one stay in the cache.
pub async fn build(
    store: &ImageStore,
    sandbox: &impl Sandbox,
    request: &BuildRequest,
    progress: &(dyn Fn(BuildEvent) + Sync),
) -> Result<Built, BuildError> {
    let dockerfile = request.dockerfile.clone().unwrap_or_else(|| request.context.join(DOCKERFILE));
    let text = read_dockerfile(request, &dockerfile)?;
    let file = dockerfile::parse(&shown_name(&dockerfile, &request.context), &text)?;
    let plan = Plan::new(file, request.target.as_deref(), &request.args)?;
    let context = open_context(request, &dockerfile)?;
    let cache = BuildCache::open(&request.cache_dir)?;
    let files = Arc::new(match request.foreign {
        true => FileHashes::for_once(),
        false => cache.files(&context.path),
    });
    // No layer that this build relies on may be collected before the image names it.
    let _hold = store.hold().map_err(BuildError::Store)?;
    let origin = Origin {
        root: Dir::plain(context.path.clone()),
        shown: "the build context".to_owned(),
        context: Some(context),
    };
    let stages = plan.file.stages.iter().map(|_| watch::Sender::new(None)).collect();
    let shared = Shared {
        store,
        sandbox,
        request,
        progress,
        plan,
        cache,
        context: origin,
        files,
        cancelled: CancelOnDrop::default(),
        stages,
        images: Mutex::default(),
    };
    let result = shared.all_stages().await;
    shared.files.save();
    let target = result?;
    progress(BuildEvent::Exporting);
    shared.store_image(&target)
}

impl<S: Sandbox> Shared<'_, S> {
    /// Builds all stages that are needed, at the same time as far as they do not wait for each other.
    async fn all_stages(&self) -> Result<Arc<Finished>, Diagnostic> {
        let stages = self.plan.needed.iter().map(|&number| async move {
            let finished = Arc::new(StageBuild::build(self, number).await?);
            self.stages[number].send_replace(Some(Arc::clone(&finished)));
            Ok::<_, Diagnostic>(finished)
        });
        let finished = try_join_all(stages).await?;
        let at = self.plan.needed.iter().position(|&number| number == self.plan.target);
        Ok(Arc::clone(&finished[at.expect("a target needs itself")]))
    }

    /// Waits for a stage.
    pub(crate) async fn finished(&self, number: usize) -> Result<Arc<Finished>, Problem> {
        if !self.plan.needed.contains(&number) {
            let name = self.plan.stage_name(number);
            return Err(Problem::Unsupported(format!("a trigger that copies from the stage {name}")));
        }
        let mut receiver = self.stages[number].subscribe();
        let outcome = receiver.wait_for(Option::is_some).await;
        // The senders live as long as this.
        outcome.ok().and_then(|outcome| outcome.clone()).ok_or(Problem::Cancelled)
    }

    /// Gets an image for the stage `number`.
    pub(crate) async fn image(&self, reference: &Reference, number: usize) -> Result<Image, Problem> {
        let cell = Arc::clone(self.images.lock().await.entry(reference.clone()).or_default());
        let image = cell.get_or_try_init(|| self.sandbox.image(reference, self.request.pull)).await;
        image.cloned().map_err(|source| Problem::Image {
            image: reference.to_string(),
            near: near_stage(&self.plan.file.stages, number, &reference.familiar_name()),
            source,
        })
    }

    fn store_image(&self, target: &Finished) -> Result<Built, BuildError> {
        let mut config = target.config.image.clone();
        let labels = self.request.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
        config.config.labels.extend(labels);
        let image = self.store.put_image(&config).map_err(BuildError::Store)?;
        let finished = || self.stages.iter().filter_map(|stage| stage.borrow().clone());
        let steps = finished().map(|stage| stage.steps).sum();
        let cached = finished().map(|stage| stage.cached).sum();
        Ok(Built { image, steps, cached })
    }
}

fn read_dockerfile(request: &BuildRequest, path: &Path) -> Result<String, BuildError> {
    let failed = |source| BuildError::ReadDockerfile { path: path.to_owned(), source };
    let bytes = match request.foreign {
        true => read_in_root(&request.context, path),
        false => fs::read(path),
    };
    let bytes = bytes.map_err(failed)?;
    // Some old files have comments in other encodings.
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Reads a file of somebody else's context, whose links are its own (openat2(2), RESOLVE_IN_ROOT).
pub(crate) fn read_in_root(context: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let inside = path.strip_prefix(context).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    let root = rustix::fs::open(context, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // A fifo must not keep anybody waiting.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut file = fs::File::from(rustix::fs::openat2(&root, inside, flags, Mode::empty(), resolve)?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn shown_name(dockerfile: &Path, context: &Path) -> String {
    dockerfile.strip_prefix(context).unwrap_or(dockerfile).display().to_string()
}

fn open_context(request: &BuildRequest, dockerfile: &Path) -> Result<Context, BuildError> {
    let path = &request.context;
    let failed = |source| BuildError::Context { path: path.to_owned(), source };
    let real: PathBuf = fs::canonicalize(path).map_err(failed)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, &real, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let read = |file: &Path| match request.foreign {
        true => read_in_root(path, file),
        false => fs::read(file),
    };
    let ignore = Arc::new(Ignore::load(path, dockerfile, read)?);
    Ok(Context { path: real, fd: Arc::new(fd), ignore })
}
