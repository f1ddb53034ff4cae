use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use engine_runtime::{Exit, Following, Happening, Running, Waiting};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// A started process: a container's first one or an exec's.
#[derive(Debug)]
pub struct Process {
    running: Running,
    /// A duplicate for the reactor to watch.
    ended: UnixDatagram,
}

impl Process {
    pub(crate) fn new(running: Running) -> io::Result<Self> {
        let ended = watched(running.as_fd())?;
        Ok(Self { running, ended })
    }

    /// Process id on the host.
    pub fn pid(&self) -> i32 {
        self.running.pid
    }

    /// What this host could not do, though nobody depends on it.
    pub fn warnings(&self) -> &[String] {
        &self.running.warnings
    }

    /// Waits until it has ended. If its supervisor was killed it was killed too: 137.
    pub async fn wait(&self) -> io::Result<Exit> {
        let ended = self.ended.async_io(Interest::READABLE, || self.running.wait()).await?;
        Ok(ended.unwrap_or(Exit { code: 137, oom_killed: false }))
    }

    /// Sends a signal: to a container's first process, or to all processes of an exec. One that has ended is left
    /// alone.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        match self.running.signal(number) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    /// Sets the size of its terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.running.resize(rows, columns)
    }
}

/// Tells of the end of a container's first process to who did not start it.
#[derive(Debug)]
pub struct End {
    waiting: Waiting,
    /// A duplicate for the reactor to watch.
    ended: UnixDatagram,
}

impl End {
    pub(crate) fn new(waiting: Waiting) -> io::Result<Self> {
        let ended = watched(waiting.as_fd())?;
        Ok(Self { waiting, ended })
    }

    /// Waits until it has ended; `None` if its supervisor was killed, and it with it. May be cancelled.
    pub async fn wait(&self) -> io::Result<Option<Exit>> {
        self.ended.async_io(Interest::READABLE, || self.waiting.wait()).await
    }
}

/// Tells of all that happens to a running container.
#[derive(Debug)]
pub struct Follow {
    following: Following,
    /// A duplicate for the reactor to watch.
    ready: UnixDatagram,
}

impl Follow {
    pub(crate) fn new(following: Following) -> io::Result<Self> {
        let ready = watched(following.as_fd())?;
        Ok(Self { following, ready })
    }

    /// Waits until something happens; `None` once it has ended for good. Without an end before that its supervisor was
    /// killed, and it with it. May be cancelled.
    pub async fn next(&self) -> io::Result<Option<Happening>> {
        self.ready.async_io(Interest::READABLE, || self.following.next()).await
    }
}

fn watched(fd: BorrowedFd<'_>) -> io::Result<UnixDatagram> {
    // It is a sequenced-packet socket; the reactor does not care.
    let socket = std::os::unix::net::UnixDatagram::from(fd.try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}
