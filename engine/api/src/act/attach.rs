use std::os::fd::OwnedFd;

use engine::Container;
use engine::runtime::StdStreams;
use engine_types::ContainerId;
use tokio::net::UnixStream;

use super::{Daemon, PENDING_MAX};
use crate::error::ApiError;

impl Daemon {
    /// A stream that carries a container's output, and its input back: from now on if it runs, otherwise from its next
    /// start on.
    pub(crate) async fn attach(&self, container: &Container, stdin: bool) -> Result<UnixStream, ApiError> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs: OwnedFd = theirs.into_std()?.into();
        if container.running {
            self.engine().attach_container(container.id, theirs, stdin && container.config.stdin).await?;
            return Ok(ours);
        }
        let mut pending = self.pending();
        let waiting = pending.entry(container.id).or_default();
        if waiting.len() >= PENDING_MAX {
            let text =
                format!("{PENDING_MAX} clients wait for the start of container {} already", container.name);
            return Err(ApiError::Conflict(text));
        }
        waiting.push(theirs);
        Ok(ours)
    }

    /// The streams that a container starts with, and those of further clients, which are attached right after.
    pub(super) fn take_pending(&self, id: ContainerId) -> (StdStreams, Vec<OwnedFd>) {
        let mut waiting = self.pending().remove(&id).unwrap_or_default().into_iter();
        let first = waiting.next().map_or(StdStreams::Supervised, StdStreams::Attached);
        (first, waiting.collect())
    }
}
