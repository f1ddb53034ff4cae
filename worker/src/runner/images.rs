use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use engine::build::{BuildEvent, BuildRequest};
use engine::image::{PullEvent, PullOptions};
use engine::types::{Digest, ErrorKind, ImageId, Reference};
use engine::{BuildCommands, BuildSandbox, Network};
use pipelines::{Build, Image};
use tokio::sync::OnceCell;

use super::attempt::{Attempt, Failure};
use super::containers::set_up;
use super::run::Settings;
use crate::event::{Event, Level, Phase};
use crate::mask::MaskedStream;

/// The images of a run: each is pulled or built once, by the job that needs it first.
pub(super) struct Images {
    /// By the image as the file has it.
    known: Mutex<HashMap<String, Arc<OnceCell<ImageId>>>>,
    registries: engine::image::Registries,
    /// Of all builds.
    network: OnceCell<Network>,
}

impl Images {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { known: Mutex::default(), registries: settings.registries.clone(), network: OnceCell::new() }
    }

    /// Finds, pulls or builds an image.
    pub(super) async fn get(&self, attempt: &Attempt<'_>, image: &Image) -> Result<ImageId, Failure> {
        let key = format!("{image:?}");
        let cell =
            Arc::clone(self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let id = cell.get_or_try_init(|| async {
            match image {
                Image::Reference(name) => self.pull(attempt, name).await,
                Image::Build { build } => self.build(attempt, build).await,
            }
        });
        id.await.copied()
    }

    async fn build(&self, attempt: &Attempt<'_>, build: &Build) -> Result<ImageId, Failure> {
        let (engine, session) = (&attempt.settings.engine, attempt.settings.session.id());
        attempt.phase(Phase::Build);
        let context = attempt.settings.snapshot.path().join(&build.context);
        let request = BuildRequest {
            dockerfile: build.dockerfile.as_ref().map(|name| context.join(name)),
            context,
            target: build.target.clone(),
            args: build.args.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            cache_dir: engine.build_cache(),
            ..BuildRequest::default()
        };
        let pulls = Mutex::new(HashMap::new());
        let on_pull = |name: &str, event: PullEvent| {
            let mut pulls = pulls.lock().unwrap_or_else(PoisonError::into_inner);
            pulls
                .entry(name.to_owned())
                .or_insert_with(|| PullProgress::new(attempt, name.to_owned()))
                .take(event);
        };
        let pull = PullOptions { registries: self.registries.clone(), platform: None };
        let network = &self.network;
        let sandbox = BuildSandbox {
            engine,
            session,
            network,
            commands: BuildCommands::default(),
            pull,
            on_pull: &on_pull,
        };
        let output = BuildOutput { attempt, masked: Mutex::new(attempt.masker.stream()) };
        let built = engine.build(&request, &sandbox, &|event| output.take(event)).await;
        output.finish();
        let built = built.map_err(|e| Failure::SetUp(crate::causes(&e)))?;
        if built.cached < built.steps {
            self.sync(attempt);
        }
        Ok(built.image.id)
    }

    async fn pull(&self, attempt: &Attempt<'_>, name: &str) -> Result<ImageId, Failure> {
        let store = attempt.settings.engine.images();
        match store.resolve(name) {
            Ok(image) => return Ok(image.id),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(set_up(&format!("image {name}"), &e)),
        }
        attempt.phase(Phase::Pull(name.to_owned()));
        let reference: Reference = name.parse().map_err(|e| set_up(&format!("image {name}"), &e))?;
        let options = PullOptions { registries: self.registries.clone(), platform: None };
        let progress = PullProgress::new(attempt, name.to_owned());
        let pulled = store.pull(&reference, &options, &|event| progress.take(event)).await;
        let image = pulled.map_err(|e| set_up(&format!("image {name}"), &e))?;
        self.sync(attempt);
        Ok(image.id)
    }

    /// Has what was stored reach the disk while the job goes on; a layer that never did is made anew after a restart
    /// of the machine.
    fn sync(&self, attempt: &Attempt<'_>) {
        let store = attempt.settings.engine.images().clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.sync() {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(
                    error,
                    "what was pulled or built may have to be made again after a power failure"
                );
            }
        });
    }
}

/// Adds up the layers of a pull.
struct PullProgress<'a> {
    attempt: &'a Attempt<'a>,
    image: String,
    /// Bytes received and bytes in all, by layer.
    layers: Mutex<HashMap<Digest, (u64, u64)>>,
}

impl<'a> PullProgress<'a> {
    fn new(attempt: &'a Attempt<'a>, image: String) -> Self {
        Self { attempt, image, layers: Mutex::default() }
    }

    fn take(&self, event: PullEvent) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            PullEvent::LayerStarted { blob, size } => drop(layers.insert(blob, (0, size))),
            PullEvent::LayerProgress { blob, received, .. } => {
                if let Some(layer) = layers.get_mut(&blob) {
                    layer.0 = received;
                }
            }
            PullEvent::MirrorFailed { registry, reason } => {
                return self.attempt.notice(Level::Warning, format!("mirror {registry}: {reason}"));
            }
            _ => return,
        }
        let (received, total) = layers.values().fold((0, 0), |(r, t), layer| (r + layer.0, t + layer.1));
        let (job, image) = (self.attempt.job.id.clone(), self.image.clone());
        self.attempt.settings.reporter.report(Event::PullProgress { job, image, received, total });
    }
}

/// Passes a build's progress on.
struct BuildOutput<'a> {
    attempt: &'a Attempt<'a>,
    masked: Mutex<MaskedStream>,
}

impl BuildOutput<'_> {
    fn take(&self, event: BuildEvent) {
        let (step, cached) = match event {
            BuildEvent::Started(step) => (step, false),
            BuildEvent::Cached(step) => (step, true),
            BuildEvent::Output { bytes, .. } => {
                let mut masked = self.masked.lock().unwrap_or_else(PoisonError::into_inner);
                return self.output(masked.push(&bytes));
            }
            BuildEvent::Instruction { .. }
            | BuildEvent::Reached { .. }
            | BuildEvent::Done { .. }
            | BuildEvent::Failed(_)
            | BuildEvent::Exporting => return,
        };
        let (job, text) = (self.attempt.job.id.clone(), step.text);
        let event = Event::BuildStep { job, number: step.index, total: step.total, text, cached };
        self.attempt.settings.reporter.report(event);
    }

    fn finish(&self) {
        let rest = self.masked.lock().unwrap_or_else(PoisonError::into_inner).finish();
        self.output(rest);
    }

    fn output(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let (job, source) = (self.attempt.job.id.clone(), Arc::from("build"));
            self.attempt.settings.reporter.report(Event::Output { job, source, stderr: false, bytes });
        }
    }
}
