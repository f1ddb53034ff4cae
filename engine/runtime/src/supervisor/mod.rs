//! The supervisor: a process for each running container that makes it, holds what the kernel would otherwise forget
//! (its namespaces, its terminal, its exit code), serves clients on a socket, and ends with it.
//!
//! One thread, one poll loop. It dies with nothing: killed, it takes its container along, because the first process
//! has PDEATHSIG set and everything else is in that one's PID namespace.

mod child;
mod cleanup;
mod control;
mod exec;
mod lives;
mod namespaces;
mod probe;
mod relay;
mod resolver;
mod serve;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use engine_sys::process::Namespaces;
use engine_types::Paths;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::cgroup::{Cgroup, Hierarchies};
use crate::client::{LOCK_FILE, SOCKET_FILE};
use crate::error::{Context, SetupError, Step};
use crate::health::Health;
use crate::launch::Joined;
use crate::log::Writer;
use crate::protocol::{self, Connection, LaunchIo, Reply, Request};
use crate::restart::RestartPolicy;
use crate::seccomp::Filters;
use crate::setup::Streams;
use crate::spec::{LogConfig, Resources, Spec};
use crate::state::{State, Status};

use child::{Made, Started};
use cleanup::Cleanup;
use relay::Relay;
use serve::{Life, Server};

/// The most connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// How often the lock is tried, and the pause in between.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// The main function of the supervisor's program: standard input is the connection to the launcher.
///
/// Forks at once, so that the launcher's child ends and the supervisor has no parent to wait for it.
pub fn main() -> ExitCode {
    match engine_sys::process::spawn(Namespaces::default(), None, || i32::from(run().is_err())) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run() -> io::Result<()> {
    rustix::process::setsid()?;
    let launcher = Connection::new(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    let Some((Request::Launch { io }, mut descriptors)) = launcher.receive()? else { return Ok(()) };
    if descriptors.is_empty() {
        return Ok(());
    }
    let spec: Spec = protocol::read_body(descriptors.remove(0))?;
    let joined = Joined::take(&spec.namespaces, &mut descriptors);
    match supervise(&spec, io, (joined, descriptors), &launcher) {
        Ok(()) => Ok(()),
        Err(error) => launcher.send(&Reply::Failed(error), &[]),
    }
}

/// Makes the container and looks after it to its end. An error is one of the set-up; everything is undone then.
fn supervise(
    spec: &Spec,
    io: LaunchIo,
    (joined, passed): (Joined, Vec<OwnedFd>),
    launcher: &Connection,
) -> Result<(), SetupError> {
    if spec.user_namespace.is_some() {
        // The layers would have to be mounted with shifted ids as well.
        return Err(SetupError::Invalid("a private user namespace is not supported".to_owned()));
    }
    if spec.restart != RestartPolicy::No && (spec.tether || io == LaunchIo::Direct) {
        let what = "a container that depends on its launcher cannot be restarted without it";
        return Err(SetupError::Invalid(what.to_owned()));
    }
    let _lock = take_lock(spec)?;
    let cleanup = Cleanup::new(spec.cleanup.as_ref());
    let listener = listen(spec)?;
    let hierarchies = Hierarchies::detect(&Paths::host("", "")).step(Step::Cgroup)?;
    let host = Host { hierarchies, filters: Filters::compile(&spec.security)?, joined };
    let mut warnings = Vec::new();
    let start = |made| child::start(made, launcher, spec);
    let life = begin(spec, &host, (io, passed), &mut warnings, start, None, &spec.resources)?;
    let pid = life.started.pid;
    let running = State {
        status: Status::Running,
        pid: Some(pid),
        started_at: Some(Timestamp::now()),
        finished_at: None,
        exit_code: None,
        oom_killed: false,
        restart_count: 0,
        stopped: false,
        paused: false,
        error: None,
        health: spec.health.as_ref().map(|_| Health::default()),
    };
    running.store(&spec.state_dir)?;
    launcher.send(&Reply::Started { pid, warnings }, &[]).step(Step::Control)?;
    let launcher = launcher.as_fd().try_clone_to_owned().map(Connection::new).step(Step::Control)?;
    Server::new(spec, host, listener, cleanup, life, launcher, running).run()
}

/// What every life of the container needs of the host.
struct Host {
    hierarchies: Hierarchies,
    filters: Filters,
    /// What it has of other containers.
    joined: Joined,
}

/// Makes the first process, in `network` if it has one already, and has `start` run its program.
fn begin(
    spec: &Spec,
    host: &Host,
    (io, passed): (LaunchIo, Vec<OwnedFd>),
    warnings: &mut Vec<String>,
    start: impl FnOnce(Made) -> Result<Started, SetupError>,
    network: Option<&OwnedFd>,
    resources: &Resources,
) -> Result<Life, SetupError> {
    let id = spec.id.to_string();
    let (parent, security) = (&spec.cgroup_parent, &spec.security);
    let cgroup = Cgroup::create(&host.hierarchies, parent, &id, resources, security, warnings)?;
    let (streams, wiring) = connect(spec, io, passed)?;
    let network = network.or(host.joined.network.as_ref());
    let made = child::make(spec, &cgroup, host, streams, network)?;
    let mut started = start(made)?;
    let relay = match (wiring, started.terminal.take()) {
        (Wiring::Relay(relay), _) => Some(*relay),
        (Wiring::Terminal { log, client }, Some(controller)) => {
            Some(terminal_relay(controller, log, client)?)
        }
        _ => None,
    };
    Ok(Life { cgroup, started, relay })
}

/// Held as long as the supervisor lives, which is how others learn that it does: by taking it for a moment, which is
/// why one refusal means nothing.
fn take_lock(spec: &Spec) -> Result<OwnedFd, SetupError> {
    let path = spec.run_dir.join(LOCK_FILE);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).step_at(Step::Control, &path)?;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if attempts < LOCK_ATTEMPTS => std::thread::sleep(LOCK_PAUSE),
            result => return result.map(|()| lock).step_at(Step::Control, &path),
        }
    }
}

fn listen(spec: &Spec) -> Result<OwnedFd, SetupError> {
    let path = spec.run_dir.join(SOCKET_FILE);
    let listen = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // A socket file of an earlier life, whose lock this supervisor now holds.
        match rustix::fs::unlink(&path) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(e),
        }
        // A socket's address ends at 108 bytes; the directory may be deep.
        rustix::process::chdir(&spec.run_dir)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(SOCKET_FILE)?)?;
        rustix::process::chdir("/")?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(socket)
    };
    listen().step_at(Step::Socket, &path)
}

/// What stands on the supervisor's side of the streams.
enum Wiring {
    /// Nothing: the streams are the launcher's.
    None,
    /// Pipes.
    Relay(Box<Relay>),
    /// A terminal, once the container has opened one.
    Terminal { log: Option<LogConfig>, client: Option<OwnedFd> },
}

fn connect(spec: &Spec, io: LaunchIo, mut passed: Vec<OwnedFd>) -> Result<(Streams, Wiring), SetupError> {
    if io == LaunchIo::Direct {
        let streams =
            passed.try_into().map_err(|_| SetupError::Invalid("three streams are expected".to_owned()))?;
        return Ok((Some(streams), Wiring::None));
    }
    let client = passed.pop();
    if spec.process.terminal {
        return Ok((None, Wiring::Terminal { log: spec.log.clone(), client }));
    }
    let log = spec.log.clone().map(Writer::open).transpose()?;
    let make = || {
        use rustix::pipe::{PipeFlags, pipe_with};
        let (stdout, stdout_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stdin, input) = if spec.process.stdin {
            let (stdin, input) = pipe_with(PipeFlags::CLOEXEC)?;
            (stdin, Some(input))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        let mut relay = Relay::pipes(stdout, stderr, (input, spec.process.stdin_stays), log)?;
        if let Some(client) = client {
            relay.attach(client, true, spec.process.stdin)?;
        }
        Ok::<_, io::Error>((Some([stdin, stdout_in, stderr_in]), Wiring::Relay(Box::new(relay))))
    };
    make().step(Step::Stdio)
}

fn terminal_relay(
    controller: OwnedFd,
    log: Option<LogConfig>,
    client: Option<OwnedFd>,
) -> Result<Relay, SetupError> {
    let log = log.map(Writer::open).transpose()?;
    let make = || {
        let mut relay = Relay::terminal(controller, log)?;
        if let Some(client) = client {
            relay.attach(client, true, true)?;
        }
        Ok::<_, io::Error>(relay)
    };
    make().step(Step::Terminal)
}

/// What becomes of a container at its end.
fn exited(state: &State, code: i32, oom_killed: bool) -> State {
    State {
        status: Status::Exited,
        pid: None,
        finished_at: Some(Timestamp::now()),
        exit_code: Some(code),
        oom_killed,
        paused: false,
        ..state.clone()
    }
}

/// Builds the reply that tells of an end.
fn exit_reply(code: i32, oom_killed: bool) -> Reply {
    Reply::Exited { code, oom_killed }
}

/// The exit code of an ended child, by its pidfd.
fn reap(pidfd: &OwnedFd) -> io::Result<i32> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))?;
    Ok(status.map_or(255, |s| {
        s.exit_status().or_else(|| s.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_keeps_the_start() {
        let running = State {
            status: Status::Running,
            pid: Some(7),
            started_at: Some(Timestamp::UNIX_EPOCH),
            finished_at: None,
            exit_code: None,
            oom_killed: false,
            restart_count: 3,
            stopped: false,
            paused: false,
            error: None,
            health: None,
        };
        let ended = exited(&running, 137, true);
        assert_eq!((ended.pid, ended.exit_code, ended.started_at), (None, Some(137), running.started_at));
        assert_eq!(ended.restart_count, 3);
    }
}
