use std::os::fd::BorrowedFd;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::{Connection, NetlinkError};

/// Runs `work` with a netlink socket of another network namespace.
///
/// A thread of its own enters the namespace and ends there, so the calling thread never leaves its own.
pub(crate) fn within<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce(&mut Connection) -> Result<T, NetlinkError> + Send,
) -> Result<T, NetlinkError> {
    thread::scope(|scope| {
        let inside = || {
            move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
                .map_err(|e| NetlinkError::new("enter the container's network namespace", e))?;
            work(&mut Connection::open()?)
        };
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, inside)
            .map_err(|e| NetlinkError::new("start a thread for the container's network namespace", e))?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
