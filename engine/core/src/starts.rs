//! Containers that are started, by whatever process.
//!
//! Whoever has started a container changes the times of its run directory, which the kernel tells those who watch the
//! directory above (inotify(7), IN_ATTRIB). Nothing is written, and one watch does for all.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use engine_types::ContainerId;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW};
use tokio::net::unix::pipe;

use crate::engine::Engine;
use crate::error::{At, Error};

/// Notifications taken at once, in bytes.
const NOTIFICATIONS: usize = 16 * 1024;
/// A notification before its name: watch, mask, cookie and the name's length, of four bytes each (inotify(7)).
const HEADER: usize = 16;

/// Tells of containers that are started.
#[derive(Debug)]
pub struct Starts {
    watch: pipe::Receiver,
    told: VecDeque<ContainerId>,
}

impl Engine {
    /// Tells of the containers of this root that any process starts from now on. Of very many at once some may be left
    /// out, and one may be told of that has not been started.
    pub fn watch_starts(&self) -> Result<Starts, Error> {
        let dir = self.paths().run.join("containers");
        let open = || {
            let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            inotify::add_watch(&watch, &dir, WatchFlags::ATTRIB | WatchFlags::ONLYDIR)?;
            // It is no pipe; the reactor does not care.
            pipe::Receiver::from_owned_fd_unchecked(watch)
        };
        Ok(Starts { watch: open().at(&dir)?, told: VecDeque::new() })
    }
}

impl Starts {
    /// Waits for the next. May be cancelled.
    pub async fn next(&mut self) -> io::Result<ContainerId> {
        loop {
            if let Some(id) = self.told.pop_front() {
                return Ok(id);
            }
            self.watch.readable().await?;
            let mut buffer = [0; NOTIFICATIONS];
            match self.watch.try_read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => self.told.extend(ids(&buffer[..read?])),
            }
        }
    }
}

fn ids(mut notifications: &[u8]) -> Vec<ContainerId> {
    let mut found = Vec::new();
    while let Some((header, rest)) = notifications.split_at_checked(HEADER) {
        let length = u32::from_ne_bytes([header[12], header[13], header[14], header[15]]);
        let Some((name, others)) = rest.split_at_checked(length as usize) else { break };
        // Filled up with zeros.
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        found.extend(std::str::from_utf8(name).ok().and_then(|name| name.parse::<ContainerId>().ok()));
        notifications = others;
    }
    found
}

/// Tells those who watch that a container was started.
pub(crate) fn announce(run_dir: &Path) -> io::Result<()> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    Ok(rustix::fs::utimensat(CWD, run_dir, &times, AtFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_watches_is_told_of_what_is_announced() {
        let dir = tempfile::tempdir().unwrap();
        let id = ContainerId::from_random([7; 32]);
        let own = dir.path().join(id.to_string());
        std::fs::create_dir_all(&own).unwrap();
        std::fs::create_dir_all(dir.path().join("other")).unwrap();
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, dir.path(), WatchFlags::ATTRIB).unwrap();
        let watch = pipe::Receiver::from_owned_fd_unchecked(watch).unwrap();
        let mut starts = Starts { watch, told: VecDeque::new() };
        announce(&dir.path().join("other")).unwrap();
        announce(&own).unwrap();
        assert_eq!(starts.next().await.unwrap(), id);
    }
}
