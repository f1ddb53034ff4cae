//! What requests do: everything that uses the engine, and the little that the daemon itself holds.

mod attach;
mod build;
mod container;
mod context;
mod exec;
mod files;
mod follow;
mod image;
mod live;
mod network;
mod prune;
mod system;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{Engine, EventKind};
use engine_types::ContainerId;
use tokio::sync::watch;

use crate::error::ApiError;
use exec::Execs;

pub(crate) use build::BuildProgress;
pub(crate) use container::{Attached, Images, Seen, WaitFor, network_mode};
pub(crate) use exec::{ExecSpec, ExecView};
pub(crate) use files::UnpackRequest;
pub(crate) use image::PullRequest;
pub(crate) use live::{Interface, Running, Sample};
pub(crate) use network::Member;
pub(crate) use prune::{PruneBuild, until};
pub(crate) use system::Host;

/// The exit code of a container whose supervisor was killed, and it with it.
pub(crate) const KILLED: i32 = 137;
/// The most clients that wait for one container's start, which is when they are attached.
const PENDING_MAX: usize = 64;

/// The engine with what only its daemon knows. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Daemon(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    /// The streams of clients that attached to a container before its start.
    pending: Mutex<HashMap<ContainerId, Vec<OwnedFd>>>,
    execs: Mutex<Execs>,
    /// Containers that this daemon follows; each resolves once its last end is recorded.
    watched: Mutex<HashMap<ContainerId, watch::Receiver<bool>>>,
    /// Containers that this daemon starts, until it is told of that as it is of others'.
    own_starts: Mutex<HashSet<ContainerId>>,
    /// New images are about to be synced to the disk.
    sync_due: AtomicBool,
}

impl Daemon {
    pub(crate) fn new(engine: Engine) -> Self {
        Self(Arc::new(Inner {
            engine,
            pending: Mutex::default(),
            execs: Mutex::default(),
            watched: Mutex::default(),
            own_starts: Mutex::default(),
            sync_due: AtomicBool::new(false),
        }))
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<ContainerId, Vec<OwnedFd>>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<ContainerId, watch::Receiver<bool>>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn own_starts(&self) -> MutexGuard<'_, HashSet<ContainerId>> {
        self.0.own_starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn execs(&self) -> MutexGuard<'_, Execs> {
        self.0.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what happened to an image, a network or a volume.
    async fn record(
        &self,
        kind: EventKind,
        action: &str,
        actor: &str,
        attributes: &[(&str, &str)],
    ) -> Result<(), ApiError> {
        let attributes: BTreeMap<String, String> =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Ok(self.engine().record(kind, action, actor, attributes).await?)
    }
}

/// Bytes for a new id.
fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}
