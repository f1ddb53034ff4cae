//! Whole builds over a sandbox that runs nothing but what a test gives it.

mod cache;
mod copy;
mod errors;
mod stages;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use engine_image::{ChainId, Image, ImageConfig, ImageStore};
use engine_types::{ErrorKind, Reference};
use tempfile::TempDir;

use crate::rootfs::Dir;
use crate::{BuildError, BuildEvent, BuildRequest, Built, RunStep, Sandbox, SandboxError, build};

/// Writes `$1` into the file `$2` of the upper directory for commands such as `write TEXT FILE`.
pub(crate) struct Fake {
    store: ImageStore,
    /// The cache's records.
    steps: PathBuf,
    /// The commands that ran, without their shell.
    pub(crate) ran: Mutex<Vec<String>>,
    /// What each saw: variables, working directory, user.
    pub(crate) saw: Mutex<Vec<(Vec<String>, String, String)>>,
    /// The images that were asked for.
    pub(crate) images: Mutex<Vec<String>>,
    /// `meet` waits until two commands have come to it.
    pub(crate) barrier: tokio::sync::Barrier,
}

impl Sandbox for Fake {
    async fn run(&self, step: RunStep<'_>) -> Result<i32, SandboxError> {
        (step.mounted)();
        let command = step.args.last().cloned().unwrap_or_default();
        self.ran.lock().unwrap().push(command.clone());
        self.saw.lock().unwrap().push((step.env.to_vec(), step.cwd.to_owned(), step.user.to_owned()));
        (step.output)(crate::Stream::Stdout, command.as_bytes());
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            ["write", text, file] => {
                let path = step.upper.join(file.trim_start_matches('/'));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
                Ok(0)
            }
            ["read", file] => {
                let dirs = step.layers.to_vec();
                let node = Dir::layers(dirs).resolve(Path::new(file), true).unwrap().node;
                Ok(i32::from(node.is_none()))
            }
            ["meet"] => {
                self.barrier.wait().await;
                Ok(0)
            }
            ["settled", file] => {
                // The layers may be renamed from here on, but not removed: an open directory stands for the mount.
                let layer = fs::File::open(&step.layers[0]).unwrap();
                let open = PathBuf::from(format!("/proc/self/fd/{}{file}", layer.as_raw_fd()));
                while fs::read_dir(&self.steps).unwrap().count() == 0 {
                    tokio::task::yield_now().await;
                }
                Ok(i32::from(fs::read(open).is_err()))
            }
            ["hang"] => std::future::pending().await,
            ["false"] => Ok(1),
            ["missing"] => Err(SandboxError::new(ErrorKind::InvalidArgument, "no such program")),
            _ => Ok(0),
        }
    }

    async fn image(&self, reference: &Reference, _pull: bool) -> Result<Image, SandboxError> {
        self.images.lock().unwrap().push(reference.to_string());
        self.store.resolve(&reference.to_string()).map_err(|e| SandboxError::new(e.kind(), e))
    }
}

/// A store with the image `base`, a context and a cache.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) store: ImageStore,
    pub(crate) fake: Fake,
    pub(crate) request: BuildRequest,
    pub(crate) events: Mutex<Vec<BuildEvent>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = ImageStore::open(&dir.path().join("images"), Path::new("/proc")).unwrap();
        let context = dir.path().join("context");
        fs::create_dir(&context).unwrap();
        let request =
            BuildRequest { context, cache_dir: dir.path().join("cache"), ..BuildRequest::default() };
        let fake = Fake {
            store: store.clone(),
            steps: request.cache_dir.join("steps"),
            ran: Mutex::default(),
            saw: Mutex::default(),
            images: Mutex::default(),
            barrier: tokio::sync::Barrier::new(2),
        };
        let world = Self { dir, store, fake, request, events: Mutex::default() };
        world.image(
            "base",
            ImageConfig::default(),
            &[&|root| {
                for name in ["etc", "usr/lib", "tmp", "srv"] {
                    fs::create_dir_all(root.join(name)).unwrap();
                }
                fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n")
                    .unwrap();
                fs::write(root.join("etc/group"), "root:x:0:\nstaff:x:50:\n").unwrap();
                std::os::unix::fs::symlink("usr/lib", root.join("lib")).unwrap();
            }],
        );
        world
    }

    /// Stores an image of the layers that these functions write, lowest first.
    pub(crate) fn image(&self, name: &str, mut config: ImageConfig, layers: &[&dyn Fn(&Path)]) -> Image {
        let mut parent: Option<ChainId> = None;
        for write in layers {
            let staged = self.store.stage().unwrap();
            write(&staged.upper());
            let hashed = staged.hash().unwrap();
            config.rootfs.diff_ids.push(hashed.diff_id);
            parent = Some(self.store.adopt(staged, parent, hashed).unwrap().chain_id);
        }
        let image = self.store.put_image(&config).unwrap();
        self.store.tag(image.id, &name.parse().unwrap()).unwrap();
        image
    }

    /// Writes a file of the context.
    pub(crate) fn file(&self, path: &str, content: &str) -> PathBuf {
        let path = self.request.context.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn dockerfile(&self, text: &str) -> &Self {
        self.file("Dockerfile", text);
        self
    }

    pub(crate) async fn try_build(&self) -> Result<Built, BuildError> {
        self.events.lock().unwrap().clear();
        self.fake.ran.lock().unwrap().clear();
        self.fake.saw.lock().unwrap().clear();
        build(&self.store, &self.fake, &self.request, &|event| self.events.lock().unwrap().push(event)).await
    }

    pub(crate) async fn build(&self, dockerfile: &str) -> Built {
        match self.dockerfile(dockerfile).try_build().await {
            Ok(built) => built,
            Err(e) => panic!("{}", chain(&e)),
        }
    }

    pub(crate) fn ran(&self) -> Vec<String> {
        self.fake.ran.lock().unwrap().clone()
    }

    /// What is being made in the store at the moment.
    pub(crate) fn staged(&self) -> usize {
        fs::read_dir(self.dir.path().join("images/staging")).unwrap().count()
    }

    /// All files of an image, as a container sees them.
    pub(crate) fn root(&self, image: &Image) -> Dir {
        Dir::layers(self.store.layer_dirs(image))
    }

    /// `path mode owner content` of all that the layers above the base's hold, sorted.
    pub(crate) fn added(&self, built: &Built) -> Vec<String> {
        let dirs = self.store.layer_dirs(&built.image);
        let mut found = BTreeMap::new();
        for dir in dirs[..dirs.len().saturating_sub(1)].iter().rev() {
            list(dir, dir, &mut found);
        }
        found.into_values().collect()
    }
}

fn list(root: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, String>) {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let shown = if meta.is_symlink() {
            format!("/{} -> {}", name.display(), fs::read_link(&path).unwrap().display())
        } else {
            let what = if meta.is_dir() { String::new() } else { fs::read_to_string(&path).unwrap() };
            let slash = if meta.is_dir() { "/" } else { "" };
            let mode = meta.mode() & 0o7777;
            format!("/{}{slash} {mode:o} {}:{} {what}", name.display(), meta.uid(), meta.gid())
                .trim_end()
                .to_owned()
        };
        found.insert(name, shown);
        if meta.is_dir() {
            list(root, &path, found);
        }
    }
}

/// An error with its causes, as a binary prints it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!("\ncaused by: {error}"));
        source = error.source();
    }
    text
}
