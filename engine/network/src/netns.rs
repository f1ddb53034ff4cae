use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::netlink::{Connection, NetlinkError};

/// Runs `work` with a netlink socket of another network namespace.
///
/// A thread of its own enters the namespace and ends there, so the calling thread never leaves its own.
pub(crate) fn within<T: Send, E: From<NetlinkError> + Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce(&mut Connection) -> Result<T, E> + Send,
) -> Result<T, E> {
    on_own_thread(|| {
        move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
            .map_err(|e| NetlinkError::new("enter a network namespace", e))?;
        work(&mut Connection::open()?)
    })
}

/// Makes a network namespace, runs `work` with a netlink socket of it, and returns it. With the descriptor goes the
/// namespace, unless somebody else holds it too.
pub(crate) fn within_new(
    proc: &Path,
    work: impl FnOnce(&mut Connection) -> Result<(), NetlinkError> + Send,
) -> Result<OwnedFd, NetlinkError> {
    on_own_thread(|| {
        #[expect(deprecated, reason = "a network namespace holds nothing that memory safety rests on")]
        rustix::thread::unshare(UnshareFlags::NEWNET)
            .map_err(|e| NetlinkError::new("make a network namespace", e))?;
        let namespace = File::open(proc.join("thread-self/ns/net"))
            .map_err(|e| NetlinkError::new("open a new network namespace", e))?;
        work(&mut Connection::open()?)?;
        Ok(namespace.into())
    })
}

fn on_own_thread<T: Send, E: From<NetlinkError> + Send>(
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|e| NetlinkError::new("start a thread for a network namespace", e))?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
