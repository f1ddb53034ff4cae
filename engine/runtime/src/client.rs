//! Talking to a container's supervisor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use engine_types::ErrorKind;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::Signal;

use crate::error::SetupError;
use crate::health::HealthStatus;
use crate::protocol::{self, Connection, ExecBody, Reply, Request, UpdateBody};
use crate::restart::RestartPolicy;
use crate::spec::{DnsConfig, Process, Resources};

pub(crate) const SOCKET_FILE: &str = "ctl.sock";
pub(crate) const LOCK_FILE: &str = "lock";

/// Whether the container with this run directory has a living supervisor: it holds the lock for as long as it lives.
pub fn is_alive(run_dir: &Path) -> io::Result<bool> {
    let lock = match rustix::fs::open(run_dir.join(LOCK_FILE), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
    {
        Ok(lock) => lock,
        Err(rustix::io::Errno::NOENT) => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Takes the place of the supervisor of the container with this run directory, so that none can start as long as the
/// result lives; `None` if there is one. A directory that is not there has no supervisor and gets none.
pub fn claim(run_dir: &Path) -> io::Result<Option<Claim>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = match rustix::fs::open(run_dir.join(LOCK_FILE), flags, Mode::from_raw_mode(0o600)) {
        Ok(lock) => lock,
        Err(rustix::io::Errno::NOENT) => return Ok(Some(Claim { _lock: None })),
        Err(e) => return Err(e.into()),
    };
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Claim { _lock: Some(lock) })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Keeps supervisors of one container from starting.
#[derive(Debug)]
pub struct Claim {
    _lock: Option<OwnedFd>,
}

/// Why a request to a supervisor failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no supervisor: the container does not run.
    #[error("the container is not running")]
    NotRunning,
    /// The process could not be started.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The supervisor will not do it now.
    #[error("{0}")]
    Refused(String),
    /// Talking to the supervisor failed.
    #[error("talk to the supervisor of {path}")]
    Connection {
        /// The run directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ClientError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotRunning | Self::Refused(_) => ErrorKind::Conflict,
            Self::Setup(e) => e.kind(),
            Self::Connection { .. } => ErrorKind::Internal,
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, 128+n if signal n killed it.
    pub code: i32,
    /// Whether the kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
}

/// Where an exec's standard streams lead.
#[derive(Debug)]
pub enum ExecStreams {
    /// Straight to these: standard input, output, error.
    Direct([OwnedFd; 3]),
    /// Through a terminal to this stream socket, both ways.
    Terminal(OwnedFd),
}

/// A started process: the container's first one or an exec's. Dropping it leaves the process alone, except the first
/// process of a tethered container, which is killed.
#[derive(Debug)]
pub struct Running {
    connection: Connection,
    /// Process id on the host.
    pub pid: i32,
    /// What this host could not do, though nobody depends on it.
    pub warnings: Vec<String>,
}

impl Running {
    pub(crate) fn new(connection: Connection, pid: i32, warnings: Vec<String>) -> Self {
        Self { connection, pid, warnings }
    }

    /// Blocks until the process has ended; `None` if the supervisor died first. The descriptor ([`AsFd`]) is readable
    /// when this will not block.
    pub fn wait(&self) -> io::Result<Option<Exit>> {
        while let Some((reply, _)) = self.connection.receive()? {
            if let Reply::Exited { code, oom_killed } = reply {
                return Ok(Some(Exit { code, oom_killed }));
            }
        }
        Ok(None)
    }

    /// Sends a signal: to the first process, or to all processes of the exec. No answer is waited for.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        self.connection.send(&Request::Signal { number, last: asks_for_the_end(number) }, &[])
    }

    /// Sets the size of its terminal. No answer is waited for.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.connection.send(&Request::Resize { rows, columns }, &[])
    }
}

impl AsFd for Running {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// Whether who sends a signal wants the program to end, rather than to read its configuration again or the like.
fn asks_for_the_end(number: i32) -> bool {
    let others = [
        Signal::HUP,
        Signal::USR1,
        Signal::USR2,
        Signal::WINCH,
        Signal::CONT,
        Signal::STOP,
        Signal::TSTP,
        Signal::CHILD,
        Signal::ALARM,
    ];
    Signal::from_named_raw(number).is_none_or(|signal| !others.contains(&signal))
}

/// Tells of a container's health.
#[derive(Debug)]
pub struct HealthWatch {
    client: Client,
    first: Option<HealthStatus>,
}

impl HealthWatch {
    /// The verdict of now, and then of each change, for which it blocks; `None` once the container has ended. The
    /// descriptor ([`AsFd`]) is readable when any but the first call will not block.
    pub fn next_status(&mut self) -> Result<Option<HealthStatus>, ClientError> {
        if let Some(status) = self.first.take() {
            return Ok(Some(status));
        }
        match self.client.connection.receive().map_err(|e| self.client.failed(e))? {
            Some((Reply::Health { status }, _)) => Ok(Some(status)),
            Some((Reply::Exited { .. }, _)) | None => Ok(None),
            Some((other, _)) => Err(self.client.refused(other)),
        }
    }
}

impl AsFd for HealthWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.connection.as_fd()
    }
}

/// What a running container's namespaces are reached by.
#[derive(Debug)]
pub struct NamespacesOf {
    /// The pidfd of its first process; none while it waits to be restarted.
    pub init: Option<OwnedFd>,
    /// Its network namespace; none while it waits to be restarted, unless it is its own.
    pub network: Option<OwnedFd>,
}

/// A connection over which the end of a container's first process is told.
#[derive(Debug)]
pub struct Waiting {
    connection: Connection,
}

impl Waiting {
    /// Blocks until it has ended; `None` if the supervisor died first. The descriptor ([`AsFd`]) is readable when this
    /// will not block.
    pub fn wait(&self) -> io::Result<Option<Exit>> {
        loop {
            match self.connection.receive() {
                Ok(Some((Reply::Exited { code, oom_killed }, _))) => {
                    return Ok(Some(Exit { code, oom_killed }));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                // It ended with the request unread.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for Waiting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// Something that happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Its first process was started anew.
    Started,
    /// Its first process has ended.
    Ended(Exit),
    /// It has begun to work, or ceased to.
    Health(HealthStatus),
}

/// A connection over which all is told that happens to a container.
#[derive(Debug)]
pub struct Following {
    connection: Connection,
}

impl Following {
    /// Blocks until something happens; `None` once there is no supervisor any more. The descriptor ([`AsFd`]) is
    /// readable when this will not block.
    pub fn next(&self) -> io::Result<Option<Happening>> {
        loop {
            return match self.connection.receive() {
                Ok(Some((Reply::Started { .. }, _))) => Ok(Some(Happening::Started)),
                Ok(Some((Reply::Exited { code, oom_killed }, _))) => {
                    Ok(Some(Happening::Ended(Exit { code, oom_killed })))
                }
                Ok(Some((Reply::Health { status }, _))) => Ok(Some(Happening::Health(status))),
                Ok(Some(_)) => continue,
                Ok(None) => Ok(None),
                // It ended with the request unread.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
                Err(e) => Err(e),
            };
        }
    }
}

impl AsFd for Following {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// A connection to the supervisor of a running container.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    path: PathBuf,
}

impl Client {
    /// Connects to the supervisor of the container with this run directory.
    pub fn connect(run_dir: &Path) -> Result<Self, ClientError> {
        let failed = |e: rustix::io::Errno| match e {
            rustix::io::Errno::NOENT | rustix::io::Errno::CONNREFUSED => ClientError::NotRunning,
            e => ClientError::Connection { path: run_dir.to_owned(), source: e.into() },
        };
        let connect = || {
            // Through a descriptor, because a socket's address ends at 108 bytes and a run directory may be deep.
            let dir =
                rustix::fs::open(run_dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET_FILE}", dir.as_raw_fd()))?;
            let socket = rustix::net::socket_with(
                AddressFamily::UNIX,
                SocketType::SEQPACKET,
                SocketFlags::CLOEXEC,
                None,
            )?;
            rustix::net::connect(&socket, &address)?;
            Ok(socket)
        };
        let socket = connect().map_err(failed)?;
        Ok(Self { connection: Connection::new(socket), path: run_dir.to_owned() })
    }

    /// Runs a process in the container; returns once its execve has succeeded. `privileged` gives it all capabilities
    /// and no filter.
    pub fn exec(
        self,
        process: &Process,
        privileged: bool,
        streams: ExecStreams,
    ) -> Result<Running, ClientError> {
        let body = ExecBody { process: process.clone(), privileged };
        let body = protocol::write_body(&body).map_err(|e| self.failed(e))?;
        let passed = match streams {
            ExecStreams::Direct(streams) => Vec::from(streams),
            ExecStreams::Terminal(socket) => vec![socket],
        };
        let descriptors: Vec<BorrowedFd<'_>> =
            std::iter::once(body.as_fd()).chain(passed.iter().map(AsFd::as_fd)).collect();
        match self.request(&Request::Exec, &descriptors)? {
            Reply::Started { pid, warnings } => Ok(Running::new(self.connection, pid, warnings)),
            other => Err(self.refused(other)),
        }
    }

    /// Sends a signal to the first process. After one that asks for its end the container is not restarted.
    pub fn signal(&self, number: i32) -> Result<(), ClientError> {
        self.done(&Request::Signal { number, last: asks_for_the_end(number) }, &[])
    }

    /// Sends the first process a signal that is to end the container, which is not restarted then.
    pub fn stop(&self, number: i32) -> Result<(), ClientError> {
        self.done(&Request::Signal { number, last: true }, &[])
    }

    /// Freezes every process of the container.
    pub fn pause(&self) -> Result<(), ClientError> {
        self.done(&Request::Pause, &[])
    }

    /// Lets them go on.
    pub fn unpause(&self) -> Result<(), ClientError> {
        self.done(&Request::Unpause, &[])
    }

    /// Sets the limits that are given, and the restart policy, from now on. A limit that is absent stays as it is.
    pub fn update(&self, resources: &Resources, restart: RestartPolicy) -> Result<(), ClientError> {
        let body = UpdateBody { resources: resources.clone(), restart };
        let body = protocol::write_body(&body).map_err(|e| self.failed(e))?;
        self.done(&Request::Update, &[body.as_fd()])
    }

    /// Sets the size of the first process's terminal.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<(), ClientError> {
        self.done(&Request::Resize { rows, columns }, &[])
    }

    /// Has the first process's output copied to a stream socket, and its input taken from there. Without a terminal
    /// the output is framed as Docker's: stream number, three zeros, big-endian length, then the bytes.
    pub fn attach(&self, stream: BorrowedFd<'_>, output: bool, input: bool) -> Result<(), ClientError> {
        self.done(&Request::Attach { output, input }, &[stream])
    }

    /// What the launcher gave the supervisor to hold, if anything.
    pub fn held(&self) -> Result<Option<OwnedFd>, ClientError> {
        match self.exchange(&Request::Held, &[])? {
            (Reply::Held, descriptors) => Ok(descriptors.into_iter().next()),
            (other, _) => Err(self.refused(other)),
        }
    }

    /// What others need to join the container's namespaces.
    pub fn namespaces(&self) -> Result<NamespacesOf, ClientError> {
        match self.exchange(&Request::Namespaces, &[])? {
            (Reply::Namespaces { init }, mut descriptors) => {
                let init = (init && !descriptors.is_empty()).then(|| descriptors.remove(0));
                Ok(NamespacesOf { init, network: descriptors.into_iter().next() })
            }
            (other, _) => Err(self.refused(other)),
        }
    }

    /// Has DNS queries answered otherwise from now on.
    pub fn resolve(&self, config: &DnsConfig) -> Result<(), ClientError> {
        let body = protocol::write_body(config).map_err(|e| self.failed(e))?;
        self.done(&Request::Resolve, &[body.as_fd()])
    }

    /// Follows the container's health.
    pub fn watch(self) -> Result<HealthWatch, ClientError> {
        match self.request(&Request::Watch, &[])? {
            Reply::Health { status } => Ok(HealthWatch { client: self, first: Some(status) }),
            other => Err(self.refused(other)),
        }
    }

    /// Asks to be told when the first process has ended.
    pub fn waiting(self) -> Result<Waiting, ClientError> {
        self.connection.send(&Request::Wait, &[]).map_err(|e| self.failed(e))?;
        Ok(Waiting { connection: self.connection })
    }

    /// Asks to be told of all that happens to the container.
    pub fn follow(self) -> Result<Following, ClientError> {
        self.connection.send(&Request::Follow, &[]).map_err(|e| self.failed(e))?;
        Ok(Following { connection: self.connection })
    }

    /// Blocks until the first process has ended; `None` if the supervisor died first.
    pub fn wait(self) -> Result<Option<Exit>, ClientError> {
        let path = self.path.clone();
        self.waiting()?.wait().map_err(|source| ClientError::Connection { path, source })
    }

    fn done(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        match self.request(request, descriptors)? {
            Reply::Ok => Ok(()),
            other => Err(self.refused(other)),
        }
    }

    fn request(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Reply, ClientError> {
        Ok(self.exchange(request, descriptors)?.0)
    }

    fn exchange(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>), ClientError> {
        self.connection.send(request, descriptors).map_err(|e| self.failed(e))?;
        self.connection.receive().map_err(|e| self.failed(e))?.ok_or(ClientError::NotRunning)
    }

    fn refused(&self, reply: Reply) -> ClientError {
        match reply {
            Reply::Failed(error) => error.into(),
            Reply::Refused { reason } => ClientError::Refused(reason),
            Reply::Exited { .. } | Reply::NotRunning => ClientError::NotRunning,
            other => self
                .failed(io::Error::new(io::ErrorKind::InvalidData, format!("unexpected answer {other:?}"))),
        }
    }

    fn failed(&self, source: io::Error) -> ClientError {
        // Reset: it ended with the request unread.
        if matches!(source.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return ClientError::NotRunning;
        }
        ClientError::Connection { path: self.path.clone(), source }
    }
}
