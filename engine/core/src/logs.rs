use std::collections::VecDeque;
use std::io;

use engine_runtime::log::{Entry, Reader};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
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
    /// Reads a container's log from its beginning; `follow` goes on until the container ends, if it runs.
    pub async fn logs(&self, container: &Container, follow: bool) -> Result<Logs, Error> {
        let path = &container.log_path;
        let reader = Reader::open(path);
        if !follow {
            return Ok(Logs { reader, follow: None });
        }
        // Watched before it is read, so that nothing is written unseen in between.
        let watch = || {
            let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            match inotify::add_watch(&watch, path, WatchFlags::MODIFY) {
                // It is no pipe; the reactor does not care.
                Ok(_) => pipe::Receiver::from_owned_fd_unchecked(watch).map(Some),
                Err(Errno::NOENT) => Ok(None), // never started
                Err(e) => Err(io::Error::from(e)),
            }
        };
        let follow = match watch().at(path)? {
            Some(written) => self.end(container.id).await?.map(|end| Follow { written, end }),
            None => None,
        };
        Ok(Logs { reader, follow })
    }
}

impl Logs {
    /// The last entries of what has been written so far; what is written later comes from [`Logs::next`].
    pub fn last(&mut self, count: usize) -> Result<Vec<Entry>, Error> {
        let mut kept = VecDeque::new();
        loop {
            let entries = self.reader.read_more().at(self.reader.path())?;
            if entries.is_empty() {
                return Ok(kept.into());
            }
            kept.extend(entries);
            let excess = kept.len().saturating_sub(count);
            kept.drain(..excess);
        }
    }

    /// The next entries, in order; `None` after the last. May be cancelled without losing any.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>, Error> {
        loop {
            let entries = self.reader.read_more().at(self.reader.path())?;
            if !entries.is_empty() {
                return Ok(Some(entries));
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
