use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine_image::ImageStore;
use engine_network::NetworkDriver;
use engine_runtime::{Hierarchies, Launcher};
use engine_types::{ContainerId, NetworkId, Paths, SessionId};
use sha2::{Digest as _, Sha256};

use crate::catalog::Catalog;
use crate::error::{At, Error, check_host, check_root};
use crate::events::Watchers;
use crate::network::Switches;
use crate::settings::Settings;

/// The container engine over one root directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: Paths,
    instance: String,
    catalog: Catalog,
    images: ImageStore,
    networks: NetworkDriver,
    switches: Switches,
    launcher: Launcher,
    watchers: Watchers,
    settings: Settings,
}

impl Engine {
    /// Opens the engine with this root, making it if absent, and takes down what dead processes left behind.
    pub async fn open(paths: Paths) -> Result<Self, Error> {
        Self::open_with(paths, Settings::default()).await
    }

    /// Opens the engine as [`Engine::open`], to do what nobody says otherwise for as these settings say.
    pub async fn open_with(paths: Paths, settings: Settings) -> Result<Self, Error> {
        check_host(&paths)?;
        fs::create_dir_all(&paths.root).at(&paths.root)?;
        check_root(&paths.root)?;
        for dir in [paths.root.join("containers"), paths.root.join("volumes")]
            .into_iter()
            .chain(["containers", "networks", "sessions"].map(|name| paths.run.join(name)))
        {
            fs::create_dir_all(&dir).at(&dir)?;
        }
        let paths = Paths { root: paths.root.canonicalize().at(&paths.root)?, ..paths };
        let instance = instance(&paths.root);
        let catalog = Catalog::open(paths.root.join("catalog.db")).await?;
        let images = ImageStore::open(&paths.images(), &paths.proc)?;
        let networks =
            NetworkDriver::new(&instance, &paths.proc).map_err(|e| Error::Damaged(e.to_string()))?;
        let launcher = Launcher::beside_current_exe().at(&paths.root)?;
        let engine = Self(Arc::new(Inner {
            paths,
            instance,
            catalog,
            images,
            networks,
            switches: Switches::default(),
            launcher,
            watchers: Watchers::default(),
            settings,
        }));
        engine.sweep_sessions().await?;
        engine.sweep_after_boot().await?;
        if let Err(error) = engine.sweep_ports().await {
            // They are nobody's until the next sweep, or until somebody wants the same.
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(
                error,
                "ports of dead containers stay published until the next command that can withdraw them"
            );
        }
        if let Err(error) = engine.sweep_cgroups() {
            // They cost nobody anything until the next sweep.
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(
                error,
                "cgroup directories of dead containers stay until the next command that can remove them"
            );
        }
        Ok(engine)
    }

    /// Leaves the catalog open when the process ends, for one that ends soon: whoever closes it last has SQLite move
    /// its log into the database and sync it, which costs milliseconds, and more the next to open it.
    pub fn stay_open(&self) {
        std::mem::forget(self.clone());
    }

    /// The image store.
    pub fn images(&self) -> &ImageStore {
        &self.0.images
    }

    /// Where everything is.
    pub fn paths(&self) -> &Paths {
        &self.0.paths
    }

    /// What holds where nobody says otherwise.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    pub(crate) fn driver(&self) -> &NetworkDriver {
        &self.0.networks
    }

    pub(crate) fn switches(&self) -> &Switches {
        &self.0.switches
    }

    pub(crate) fn launcher(&self) -> &Launcher {
        &self.0.launcher
    }

    pub(crate) fn watchers(&self) -> &Watchers {
        &self.0.watchers
    }

    /// The cgroup directory that this root's containers share.
    pub(crate) fn cgroup_parent(&self) -> String {
        format!("lighter-{}", self.0.instance)
    }

    pub(crate) fn state_dir(&self, id: ContainerId) -> PathBuf {
        self.0.paths.root.join("containers").join(id.to_string())
    }

    pub(crate) fn run_dir(&self, id: ContainerId) -> PathBuf {
        self.0.paths.run.join("containers").join(id.to_string())
    }

    pub(crate) fn names_file(&self, id: NetworkId) -> PathBuf {
        self.0.paths.run.join("networks").join(id.to_string()).join("names")
    }

    pub(crate) fn session_lock(&self, id: SessionId) -> PathBuf {
        self.0.paths.run.join("sessions").join(format!("{id}.lock"))
    }

    pub(crate) fn session_dir(&self, id: SessionId) -> PathBuf {
        self.0.paths.root.join("sessions").join(id.to_string())
    }

    pub(crate) fn volume_dir(&self, name: &str) -> PathBuf {
        self.0.paths.root.join("volumes").join(name)
    }

    /// Removes the cgroup directories of containers whose supervisor was killed before it could. A supervisor makes
    /// its directory under its lock, so one without a lock holder belongs to nobody.
    fn sweep_cgroups(&self) -> Result<(), Error> {
        let path = &self.0.paths.cgroup;
        let hierarchies = Hierarchies::detect(&self.0.paths).at(path)?;
        let claim = |id: &str| {
            // One that cannot be looked at counts as alive.
            engine_runtime::claim(&self.0.paths.run.join("containers").join(id)).ok().flatten()
        };
        hierarchies.sweep(&self.cgroup_parent(), claim).at(path)
    }
}

/// Eight hex digits that name this root among the machine's: in interface aliases, nftables and cgroups.
fn instance(root: &Path) -> String {
    let hash = Sha256::digest(root.as_os_str().as_encoded_bytes());
    hex::encode(&hash[..4])
}

/// Bytes for a new id.
pub(crate) fn random() -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).at("/dev/urandom")?;
    Ok(bytes)
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
