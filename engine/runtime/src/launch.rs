//! Starting a container: a supervisor is executed, makes the container up to its program, hands its network namespace
//! over for wiring, and runs the program when told to.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use engine_sys::mount::{MountAttributes, set_attributes};
use engine_types::ErrorKind;
use rustix::mount::OpenTreeFlags;

use crate::client::Running;
use crate::error::SetupError;
use crate::protocol::{self, Connection, LaunchIo, Reply, Request};
use crate::spec::{Namespace, Namespaces, Spec};

/// The supervisor's program, beside every binary that embeds the engine.
const PROGRAM: &str = "lighter-supervisor";
/// Takes what a dying supervisor has to say (a panic); in the run directory.
const ERROR_FILE: &str = "supervisor.err";

/// Starts supervisors.
#[derive(Debug, Clone)]
pub struct Launcher {
    program: PathBuf,
}

/// Where the first process's standard streams lead.
#[derive(Debug)]
pub enum StdStreams {
    /// To the log, and to clients that attach.
    Supervised,
    /// The same, with a client attached from the first byte: its end of a stream socket pair was kept by the caller.
    Attached(OwnedFd),
    /// Straight to these: standard input, output, error.
    Direct([OwnedFd; 3]),
}

/// What a container joins of others: see [`crate::Client::namespaces`]. Each is there if the spec says so.
#[derive(Debug, Default)]
pub struct Joined {
    /// A network namespace.
    pub network: Option<OwnedFd>,
    /// The pidfd of the first process of a container whose PID namespace is joined.
    pub pid: Option<OwnedFd>,
    /// The same for the IPC namespace and what is mounted at /dev/shm.
    pub ipc: Option<OwnedFd>,
}

impl Joined {
    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.network, &self.pid, &self.ipc].into_iter().flatten().map(AsFd::as_fd)
    }

    /// Takes those that the spec says are there off the front.
    pub(crate) fn take(namespaces: &Namespaces, descriptors: &mut Vec<OwnedFd>) -> Self {
        let mut next = |namespace: Namespace| {
            (namespace == Namespace::Joined && !descriptors.is_empty()).then(|| descriptors.remove(0))
        };
        let network = next(namespaces.network);
        let pid = next(namespaces.pid);
        Self { network, pid, ipc: next(namespaces.ipc) }
    }
}

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The supervisor's program could not be executed.
    #[error("execute the supervisor {path}")]
    Execute {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The container could not be made.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Talking to the supervisor failed.
    #[error("talk to the supervisor")]
    Connection(#[from] io::Error),
    /// The supervisor ended without an answer.
    #[error("the supervisor ended unexpectedly: {0}")]
    Died(String),
}

impl LaunchError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setup(e) => e.kind(),
            Self::Execute { .. } => ErrorKind::Unsupported,
            Self::Connection(_) | Self::Died(_) => ErrorKind::Internal,
        }
    }

    /// The exit code that stands for it, as Docker's.
    pub fn exit_code(&self) -> i32 {
        if let Self::Setup(e) = self { e.exit_code() } else { 125 }
    }
}

impl Launcher {
    /// Uses the supervisor's program at this path.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }

    /// Uses the supervisor beside this process's own program, or one directory up, where cargo puts binaries in
    /// relation to test executables.
    pub fn beside_current_exe() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let candidates = own.ancestors().skip(1).take(2).map(|dir| dir.join(PROGRAM));
        candidates.into_iter().find(|path| path.is_file()).map(Self::new).ok_or_else(|| {
            let expected = own.with_file_name(PROGRAM);
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} is missing: install it beside {}", expected.display(), own.display()),
            )
        })
    }

    /// Starts a supervisor and has it make the container. On return the network namespace stands and nothing runs in
    /// it. Dropping the result takes the container down again.
    /// `joined` has what the spec's namespaces say is another container's.
    pub fn start(&self, spec: &Spec, streams: StdStreams, joined: &Joined) -> Result<Starting, LaunchError> {
        let (own, theirs) = Connection::pair()?;
        self.execute(spec, theirs.into())?;
        let body = protocol::write_body(spec)?;
        let (io, passed) = match streams {
            StdStreams::Supervised => (LaunchIo::Supervised, Vec::new()),
            StdStreams::Attached(socket) => (LaunchIo::Attached, vec![socket]),
            StdStreams::Direct(streams) => (LaunchIo::Direct, streams.into()),
        };
        let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(body.as_fd())
            .chain(joined.descriptors())
            .chain(passed.iter().map(AsFd::as_fd))
            .collect();
        own.send(&Request::Launch { io }, &descriptors)?;
        let starting = Starting { connection: own, network: None, error_file: spec.run_dir.join(ERROR_FILE) };
        match starting.answer()? {
            (Reply::NetworkReady, descriptors) => {
                Ok(Starting { network: descriptors.into_iter().next(), ..starting })
            }
            (Reply::Failed(error), _) => Err(error.into()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Executes the program from a read-only, detached mount of it: so nobody inside a container who gets hold of
    /// `/proc/<pid>/exe` can write to it (CVE-2019-5736).
    fn execute(&self, spec: &Spec, socket: OwnedFd) -> Result<(), LaunchError> {
        let failed = |source| LaunchError::Execute { path: self.program.clone(), source };
        let program = read_only_view(&self.program).map_err(failed)?;
        let errors = File::create(spec.run_dir.join(ERROR_FILE)).map_err(failed)?;
        let status = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .arg0(PROGRAM)
            .arg(spec.id.short())
            .env_clear()
            .current_dir("/")
            .stdin(socket)
            .stdout(Stdio::null())
            .stderr(errors)
            .status()
            .map_err(failed)?;
        if status.success() { Ok(()) } else { Err(LaunchError::Died(format!("{status}"))) }
    }
}

fn read_only_view(program: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = rustix::mount::open_tree(rustix::fs::CWD, program, flags)?;
    set_attributes(tree.as_fd(), MountAttributes::READ_ONLY, None, false)?;
    Ok(tree)
}

/// A container that is made and waits for its network.
#[derive(Debug)]
pub struct Starting {
    connection: Connection,
    network: Option<OwnedFd>,
    error_file: PathBuf,
}

impl Starting {
    /// The container's own network namespace, if it has one. Everything in it, loopback too, is still down.
    pub fn network_namespace(&self) -> Option<BorrowedFd<'_>> {
        self.network.as_ref().map(AsFd::as_fd)
    }

    /// Runs the program; returns once its execve has succeeded. The supervisor keeps copies of both descriptors as long
    /// as the container lives: of what keeps its network, which others get by [`crate::Client::held`], and of what keeps
    /// its published ports.
    pub fn proceed(
        self,
        network: Option<BorrowedFd<'_>>,
        ports: Option<BorrowedFd<'_>>,
    ) -> Result<Running, LaunchError> {
        let descriptors: Vec<BorrowedFd<'_>> = network.into_iter().chain(ports).collect();
        match self.connection.send(&Request::Proceed { network: network.is_some() }, &descriptors) {
            // The set-up has failed meanwhile: the supervisor has said why and is gone.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
        match self.answer()?.0 {
            Reply::Started { pid, warnings } => Ok(Running::new(self.connection, pid, warnings)),
            Reply::Failed(error) => Err(error.into()),
            other => Err(unexpected(&other)),
        }
    }

    fn answer(&self) -> Result<(Reply, Vec<OwnedFd>), LaunchError> {
        self.connection.receive()?.ok_or_else(|| {
            let said = std::fs::read_to_string(&self.error_file).unwrap_or_default();
            LaunchError::Died(said.trim().to_owned())
        })
    }
}

fn unexpected(reply: &Reply) -> LaunchError {
    LaunchError::Connection(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("unexpected answer {reply:?}"),
    ))
}
