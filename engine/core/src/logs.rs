use std::io;

use engine_runtime::log::{Lines, Reader};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

use crate::container::Container;
use crate::engine::Engine;
use crate::error::{At, Error};
use crate::process::End;

/// Notifications taken at once, in bytes; what they say does not matter.
const NOTIFICATIONS: usize = 4096;

/// A container's output, read entry by entry.
#[derive(Debug)]
pub struct Logs {
    reader: Reader,
    follow: Option<Follow>,
}

/// Tells when there is more.
#[derive(Debug)]
struct Follow {
    written: pipe::Receiver,
    end: End,
}

impl Engine {
    /// Reads a container's log from its beginning, or its last `tail` entries; `follow` goes on until the container
    /// ends, if it runs. What is written while this is called is told once.
    pub async fn logs(&self, container: &Container, tail: Option<u64>, follow: bool) -> Result<Logs, Error> {
        let path = &container.log_path;
        // Watched before it is read, so that nothing is written unseen in between. The directory, because a file that
        // is full is put aside and another one begun.
        let watch = || {
            let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::ONLYDIR;
            inotify::add_watch(&watch, path.parent().unwrap_or(path), flags)?;
            // It is no pipe; the reactor does not care.
            pipe::Receiver::from_owned_fd_unchecked(watch)
        };
        let follow = match follow {
            true => {
                let written = watch().at(path)?;
                self.end(container.id).await?.map(|end| Follow { written, end })
            }
            false => None,
        };
        let reader = match tail {
            Some(count) => Reader::open_at_last(path, count),
            None => Reader::open(path),
        };
        Ok(Logs { reader: reader.at(path)?, follow })
    }
}

impl Logs {
    /// The next entries, in order; `None` after the last. May be cancelled without losing any.
    pub async fn next(&mut self) -> Result<Option<Lines>, Error> {
        loop {
            let lines = self.reader.read_more().at(self.reader.path())?;
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
            let Some(follow) = &self.follow else { return Ok(None) };
            let ended = tokio::select! {
                drained = follow.drain() => { drained.at(self.reader.path())?; false }
                ended = follow.end.wait() => { ended.at(self.reader.path())?; true }
            };
            if ended {
                self.follow = None; // what was written last is still to be read
            }
        }
    }
}

impl Follow {
    /// Waits until something was written, and forgets all notifications of it.
    async fn drain(&self) -> io::Result<()> {
        loop {
            self.written.readable().await?;
            let mut buffer = [0; NOTIFICATIONS];
            match self.written.try_read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}
