use std::io;
use std::path::{Path, PathBuf};

use engine_build::Diagnostic;
use engine_image::{PullError, PushError, StoreError};
use engine_network::{
    AttachError, BridgeError, FirewallError, FreeSubnetError, NetlinkError, RemoveBridgeError, ReserveError,
};
use engine_runtime::{ClientError, LaunchError, ParseRestartPolicyError, SetupError, StateError};
use engine_types::{ContainerId, ErrorKind, FULL_DISK_REMEDY, ImageId, Paths};

use crate::files::FilesError;
use crate::health::HealthCheckError;
use crate::log_driver::LogDriverError;
use crate::ports::ParsePortError;
use crate::volume::VolumeOptionError;

/// Why the engine could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Containers take a privileged user.
    #[error("the engine needs root: run it with sudo")]
    NotRoot,
    /// A kernel feature is missing.
    #[error("this kernel lacks {feature}: {remedy}")]
    MissingFeature {
        /// What is missing.
        feature: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Overlayfs does not take a directory of another overlayfs to write to.
    #[error(
        "{root} lies on overlayfs, on which containers cannot write: keep everything on another file system with \
         LIGHTER_ROOT, or, in a container, on a volume"
    )]
    RootOnOverlay {
        /// The engine's root.
        root: PathBuf,
    },
    /// No container has this id or name.
    #[error("no such container: {0}")]
    NoSuchContainer(String),
    /// Several containers have an id that begins so.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousContainer(String),
    /// Several networks do.
    #[error("network {key} is ambiguous ({count} matches found based on ID prefix)")]
    AmbiguousNetwork {
        /// The beginning.
        key: String,
        /// How many.
        count: usize,
    },
    /// No network has this id or name.
    #[error("no such network: {0}")]
    NoSuchNetwork(String),
    /// No volume has this name.
    #[error("no such volume: {0}")]
    NoSuchVolume(String),
    /// Containers run on the network.
    #[error("network {network} is in use by {container}: stop or remove the container first")]
    NetworkInUse {
        /// The network's name.
        network: String,
        /// A container's name.
        container: String,
    },
    /// Containers have the volume among their mounts.
    #[error("volume {volume} is in use by {}: remove the containers first", containers.join(", "))]
    VolumeInUse {
        /// The volume's name.
        volume: String,
        /// The containers' ids.
        containers: Vec<String>,
    },
    /// Another object has the name.
    #[error("the {what} name {name:?} is already in use by {holder}")]
    NameInUse {
        /// `container`, `network` or `volume`.
        what: &'static str,
        /// The name.
        name: String,
        /// The id of the object that has it.
        holder: String,
    },
    /// A name with characters that names do not have.
    #[error("invalid {what} name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName {
        /// `container` or `volume`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The container runs.
    #[error("container {0} is running: stop it first, or force its removal")]
    Running(String),
    /// The container does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// The container's processes are frozen.
    #[error("container {0} is already paused")]
    Paused(String),
    /// The container's processes are not frozen.
    #[error("container {0} is not paused")]
    NotPaused(String),
    /// A container that goes with its end is never restarted.
    #[error("restart policy cannot be updated because the container is removed when it ends (--rm)")]
    UpdateOfRemoved,
    /// Memory and swap together were to be less than memory alone.
    #[error(
        "memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
    )]
    MemoryOverSwap,
    /// A container was made of the image.
    #[error("image {} is in use by container {container}: remove the container first", image.0.short())]
    ImageInUse {
        /// Whether its names can be taken away nevertheless.
        forced: bool,
        /// The image.
        image: ImageId,
        /// The container's name.
        container: String,
    },
    /// An image named by its id has several names.
    #[error("image {} has several names: remove them by name", _0.0.short())]
    SeveralNames(ImageId),
    /// The image names no program and the container neither.
    #[error("no command specified")]
    NoCommand,
    /// A network's addresses are used up.
    #[error("no available IPv4 addresses on this network's address pools: {0}")]
    NoFreeAddress(String),
    /// A line does not change an image's configuration.
    #[error(transparent)]
    Change(Box<Diagnostic>),
    /// Another container that runs has the address.
    #[error("Address already in use")]
    AddressInUse,
    /// A network of this root has some of the addresses.
    #[error("Pool overlaps with other one on this address space")]
    PoolOverlap,
    /// A container that has no network of its own cannot be put on one.
    #[error("{0}")]
    NetworkConflict(&'static str),
    /// The container is on the network already.
    #[error("endpoint with name {container} already exists in network {network}")]
    EndpointExists {
        /// The container's name.
        container: String,
        /// The network's name.
        network: String,
    },
    /// The container is not on the network.
    #[error("container {container} is not connected to network {network}")]
    NotConnected {
        /// The container.
        container: ContainerId,
        /// The network's name.
        network: String,
    },
    /// The network is that of a process which takes it down.
    #[error("network {0} belongs to a run that is under way: only its own containers can be on it")]
    SessionNetwork(String),
    /// A device that a container is to have is not there.
    #[error("error gathering device information while adding custom device {:?}", path.display().to_string())]
    Device {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is to be shared is not there.
    #[error("cannot join {what} of a non running container: {container}")]
    JoinNotRunning {
        /// `network`, `PID` or `IPC`.
        what: &'static str,
        /// The container that has it.
        container: ContainerId,
    },
    /// A container that another is to be told of does not run.
    #[error("Cannot link to a non running container: /{container} AS {alias}")]
    LinkNotRunning {
        /// Its name.
        container: String,
        /// How it was to be known.
        alias: String,
    },
    /// No volume can be made so.
    #[error(transparent)]
    VolumeOption(#[from] VolumeOptionError),
    /// A text describes no ports.
    #[error(transparent)]
    Port(#[from] ParsePortError),
    /// A health check makes no sense.
    #[error(transparent)]
    HealthCheck(#[from] HealthCheckError),
    /// Output is to go where it cannot.
    #[error(transparent)]
    LogDriver(#[from] LogDriverError),
    /// A text is no restart policy.
    #[error(transparent)]
    RestartPolicy(#[from] ParseRestartPolicyError),
    /// A container that is removed at its end is not restarted.
    #[error("conflicting options: cannot specify both --restart and --rm")]
    RestartAndRemove,
    /// Another container of this root has the port.
    #[error("Bind for {host_ip}:{port} failed: port is already allocated to container {holder}")]
    PortAllocated {
        /// The host's address; unspecified is all of them.
        host_ip: std::net::Ipv4Addr,
        /// The host's port.
        port: u16,
        /// The name of the container that has it.
        holder: String,
    },
    /// A port of the host could not be had.
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    /// The image store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A push failed.
    #[error(transparent)]
    Push(#[from] PushError),
    /// A pull failed.
    #[error(transparent)]
    Pull(#[from] PullError),
    /// A container could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The files of a container could not be reached.
    #[error("failed to reach the container's files")]
    Files(#[source] Box<SetupError>),
    /// Files of a container could not be copied.
    #[error(transparent)]
    Copy(#[from] Box<FilesError>),
    /// A supervisor could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A container's state could not be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// A bridge could not be made.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// A bridge could not be removed.
    #[error(transparent)]
    RemoveBridge(#[from] RemoveBridgeError),
    /// A network's rules could not be removed.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// A container could not be put on its network.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The network could not be configured.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// No subnet is left for a network.
    #[error(transparent)]
    Subnet(#[from] FreeSubnetError),
    /// The catalog failed.
    #[error("the catalog {path}")]
    Catalog {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The disk of the catalog is full.
    #[error("the catalog {path}: no space left on device")]
    CatalogFull {
        /// Its file.
        path: PathBuf,
        /// SQLite's words for it.
        source: sqlx::Error,
    },
    /// A row of the catalog is not what this version writes.
    #[error("the catalog has a damaged entry for {0}")]
    Damaged(String),
    /// A file could not be read or written.
    #[error("{path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotRoot => ErrorKind::Forbidden,
            Self::MissingFeature { .. } | Self::RootOnOverlay { .. } => ErrorKind::Unsupported,
            Self::NoSuchContainer(_) | Self::NoSuchNetwork(_) | Self::NoSuchVolume(_) => ErrorKind::NotFound,
            Self::ImageInUse { .. } | Self::SeveralNames(_) | Self::VolumeInUse { .. } => ErrorKind::Conflict,
            Self::NetworkInUse { .. } => ErrorKind::Forbidden,
            Self::NameInUse { .. } | Self::Running(_) | Self::NotRunning(_) => ErrorKind::Conflict,
            Self::Paused(_) | Self::NotPaused(_) | Self::UpdateOfRemoved => ErrorKind::Conflict,
            Self::MemoryOverSwap => ErrorKind::Conflict,
            Self::NoCommand | Self::InvalidName { .. } => ErrorKind::InvalidArgument,
            Self::Change(e) => e.problem.kind(),
            Self::VolumeOption(_) => ErrorKind::InvalidArgument,
            Self::Port(e) => e.kind(),
            Self::HealthCheck(e) => e.kind(),
            Self::LogDriver(e) => e.kind(),
            Self::RestartPolicy(e) => e.kind(),
            Self::RestartAndRemove => ErrorKind::InvalidArgument,
            Self::PortAllocated { .. } => ErrorKind::Conflict,
            Self::Reserve(e) => e.kind(),
            Self::NoFreeAddress(_) => ErrorKind::Unavailable,
            Self::AddressInUse
            | Self::PoolOverlap
            | Self::EndpointExists { .. }
            | Self::SessionNetwork(_) => ErrorKind::Forbidden,
            Self::NetworkConflict(_) | Self::AmbiguousContainer(_) | Self::AmbiguousNetwork { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::NotConnected { .. } | Self::Device { .. } => ErrorKind::Internal,
            Self::JoinNotRunning { .. } | Self::LinkNotRunning { .. } => ErrorKind::Conflict,
            Self::Store(e) => e.kind(),
            Self::Pull(e) => e.kind(),
            Self::Push(e) => e.kind(),
            Self::Launch(e) => e.kind(),
            Self::Files(e) => e.kind(),
            Self::Copy(e) => e.kind(),
            Self::Client(e) => e.kind(),
            Self::Bridge(e) => e.kind(),
            Self::RemoveBridge(e) => e.kind(),
            Self::Firewall(e) => e.kind(),
            Self::Attach(e) => e.kind(),
            Self::Netlink(e) => e.kind(),
            Self::Subnet(e) => e.kind(),
            Self::State(_) | Self::Catalog { .. } | Self::CatalogFull { .. } => ErrorKind::Internal,
            Self::Damaged(_) | Self::Io { .. } => ErrorKind::Internal,
        }
    }

    /// A failure of the catalog at `path`.
    pub(crate) fn catalog(path: &Path, source: sqlx::Error) -> Self {
        let path = path.to_owned();
        if is_full_catalog(&source) {
            Self::CatalogFull { path, source }
        } else {
            Self::Catalog { path, source }
        }
    }

    /// The exit code of a command that failed so, as Docker's.
    pub fn exit_code(&self) -> i32 {
        if let Self::Launch(e) = self { e.exit_code() } else { 125 }
    }
}

/// What to do about an error that has its cause on the machine, if that is known: to be said after it.
pub fn remedy(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    std::iter::successors(Some(error), |error| error.source()).any(is_full_disk).then_some(FULL_DISK_REMEDY)
}

fn is_full_disk(error: &(dyn std::error::Error + 'static)) -> bool {
    let full =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    error.downcast_ref().is_some_and(full) || error.downcast_ref().is_some_and(is_full_catalog)
}

/// SQLite's result codes FULL and IOERR_SHMSIZE, of which the second means that the index of its log found no room
/// (<https://www.sqlite.org/rescode.html>).
fn is_full_catalog(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| matches!(code.as_ref(), "13" | "4874"))
        }
        sqlx::Error::Migrate(error) => {
            matches!(&**error, sqlx::migrate::MigrateError::Execute(e) if is_full_catalog(e))
                || matches!(&**error, sqlx::migrate::MigrateError::ExecuteMigration(e, _) if is_full_catalog(e))
        }
        _ => false,
    }
}

/// Names the file that an I/O error belongs to.
pub(crate) trait At<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, path: impl AsRef<Path>) -> Result<T, Error> {
        self.map_err(|e| Error::Io { path: path.as_ref().to_owned(), source: e.into() })
    }
}

/// Fails unless the engine's root lies where containers can write.
pub(crate) fn check_root(root: &Path) -> Result<(), Error> {
    // include/uapi/linux/magic.h, OVERLAYFS_SUPER_MAGIC
    const OVERLAYFS: u64 = 0x794c_7630;
    let found = rustix::fs::statfs(root).at(root)?;
    if found.f_type as u64 == OVERLAYFS {
        return Err(Error::RootOnOverlay { root: root.to_owned() });
    }
    Ok(())
}

/// Fails unless this process and kernel can run containers at all.
pub(crate) fn check_host(paths: &Paths) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let path = paths.proc_file("filesystems");
    let known = std::fs::read_to_string(&path).at(&path)?;
    if !known.lines().any(|line| line.split_whitespace().last() == Some("overlay")) {
        // A module that is not loaded yet is loaded by the first mount, unless there are no modules.
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let modules = Path::new("/lib/modules").join(release).join("kernel/fs/overlayfs");
        if !modules.exists() {
            return Err(Error::MissingFeature { feature: "overlayfs", remedy: "enable CONFIG_OVERLAY_FS" });
        }
    }
    Ok(())
}
