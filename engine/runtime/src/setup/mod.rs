//! What runs between clone and exec: in the container's first process, and in an exec's.
//!
//! Everything here happens in a forked copy of the supervisor, which has one thread, so ordinary Rust is fine. The
//! process is not dumpable until its execve: nobody inside can read its memory or reach the supervisor's program
//! through its /proc/<pid>/exe.

mod assemble;
mod init;
mod mounts;
mod overlay;
mod process;
mod root;
mod user;

use std::convert::Infallible;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal};
use rustix::pty::OpenptFlags;
use rustix::thread::ThreadNameSpaceType;
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, Entry};
use crate::error::{Context, SetupError, Step};
use crate::protocol::Connection;
use crate::seccomp::Filters;
use crate::spec::{Namespace, Process, Security, Spec};

pub use assemble::{assemble, assemble_to_read};
use process::Launch;
pub use user::{User, resolve_in as resolve_user};

/// From the child to the supervisor. That it said nothing and closed its end means that the program runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromChild {
    /// The terminal's controlling side is the descriptor beside.
    Terminal,
    /// It failed and is about to exit.
    Failed(SetupError),
}

/// From the supervisor to the child.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToChild {
    /// The network stands: run the program.
    Go,
}

/// Standard input, output and error; `None` for a terminal, which is opened inside.
pub(crate) type Streams = Option<[OwnedFd; 3]>;

/// What the first process is made of.
pub(crate) struct ContainerChild<'a> {
    pub(crate) spec: &'a Spec,
    /// The network namespace of its earlier lives, or of another container.
    pub(crate) network: Option<&'a OwnedFd>,
    /// The first process of the container whose IPC namespace it joins.
    pub(crate) ipc: Option<&'a OwnedFd>,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) entry: Entry,
    pub(crate) filters: &'a Filters,
    pub(crate) streams: Streams,
    pub(crate) supervisor: Connection,
}

/// What an exec's process is made of.
pub(crate) struct ExecChild<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) process: &'a Process,
    /// The container's first process.
    pub(crate) init: &'a OwnedFd,
    pub(crate) entry: Entry,
    pub(crate) filters: &'a Filters,
    pub(crate) security: &'a crate::spec::Security,
    pub(crate) streams: Streams,
    pub(crate) supervisor: Connection,
}

/// The first process's main function; its value is the exit code if the program never ran.
pub(crate) fn container_main(child: ContainerChild<'_>) -> i32 {
    let supervisor = child.supervisor.as_fd().try_clone_to_owned().map(Connection::new);
    match run_container(child) {
        Ok(never) => match never {},
        Err(error) => report(supervisor, error),
    }
}

/// An exec's main function.
pub(crate) fn exec_main(child: ExecChild<'_>) -> i32 {
    let supervisor = child.supervisor.as_fd().try_clone_to_owned().map(Connection::new);
    match run_exec(child) {
        Ok(never) => match never {},
        Err(error) => report(supervisor, error),
    }
}

fn report(supervisor: std::io::Result<Connection>, error: SetupError) -> i32 {
    let code = error.exit_code();
    // A supervisor that cannot be reached any more sees the exit code.
    let _ = supervisor.and_then(|s| s.send(&FromChild::Failed(error), &[]));
    code
}

fn run_container(child: ContainerChild<'_>) -> Result<Infallible, SetupError> {
    let ContainerChild { spec, network, ipc, cgroup, entry, filters, streams, supervisor } = child;
    shield()?;
    // The exact permission bits of device nodes and mount points are asked for.
    rustix::process::umask(Mode::empty());
    entry.enter().step(Step::Cgroup)?;
    if spec.namespaces.cgroup != Namespace::Host {
        engine_sys::process::unshare_cgroup_namespace().step(Step::CgroupNamespace)?;
    }
    if let Some(network) = network {
        // Before /sys is mounted, which shows the namespace of whoever mounts it.
        rustix::thread::move_into_thread_name_spaces(network.as_fd(), ThreadNameSpaceType::NETWORK)
            .step(Step::JoinNamespaces)?;
    }
    let shm = ipc.map(join_ipc).transpose()?;
    set_names(spec)?;
    mounts::enter_root(spec, cgroup, shm)?;
    if let Some(adjustment) = spec.resources.oom_score_adj {
        fs::write("/proc/self/oom_score_adj", adjustment.to_string()).step(Step::OomScore)?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let terminal = streams.is_none();
    let streams = match streams {
        Some(streams) => streams,
        None => open_terminal(&supervisor, true)?,
    };
    wait_for_go(&supervisor)?;
    let security = Security { capabilities: cgroup.capabilities(&spec.security), ..spec.security.clone() };
    let launch = Launch { process: &spec.process, security: &security, resources: &spec.resources, filters };
    if spec.init {
        return init::run(&launch, streams, terminal, supervisor);
    }
    process::connect_stdio(streams, terminal)?;
    process::execute(&launch)
}

fn run_exec(child: ExecChild<'_>) -> Result<Infallible, SetupError> {
    let ExecChild { spec, process, init, entry, filters, security, streams, supervisor } = child;
    shield()?;
    entry.enter().step(Step::Cgroup)?;
    // A cgroup namespace of its own, not the container's: in that, its own directory below the container's would be
    // named, where programs would look for the limits in vain (v2 passes no controller on to it).
    if spec.namespaces.cgroup != Namespace::Host {
        engine_sys::process::unshare_cgroup_namespace().step(Step::CgroupNamespace)?;
    }
    let mut namespaces = ThreadNameSpaceType::MOUNT;
    for (own, kind) in [
        (spec.namespaces.network, ThreadNameSpaceType::NETWORK),
        (spec.namespaces.uts, ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        (spec.namespaces.ipc, ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
    ] {
        if own != Namespace::Host {
            namespaces |= kind;
        }
    }
    rustix::thread::move_into_thread_name_spaces(init.as_fd(), namespaces).step(Step::JoinNamespaces)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let terminal = streams.is_none();
    let streams = match streams {
        Some(streams) => streams,
        None => open_terminal(&supervisor, false)?,
    };
    process::connect_stdio(streams, terminal)?;
    process::execute(&Launch { process, security, resources: &spec.resources, filters })
}

/// Dies with the supervisor, and hides from the container until execve.
fn shield() -> Result<(), SetupError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).step(Step::Fork)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step(Step::Fork)
}

/// Joins the IPC namespace of another container; its /dev/shm as a detached mount. That can only be had from within its
/// mount namespace.
fn join_ipc(of: &OwnedFd) -> Result<OwnedFd, SetupError> {
    let join = |fd: &OwnedFd, kind: ThreadNameSpaceType| {
        rustix::thread::move_into_thread_name_spaces(fd.as_fd(), kind)
    };
    let own: OwnedFd = fs::File::open("/proc/self/ns/mnt").step(Step::JoinNamespaces)?.into();
    let both = ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION | ThreadNameSpaceType::MOUNT;
    join(of, both).step(Step::JoinNamespaces)?;
    let shm = root::open_host(Path::new("/dev/shm")).and_then(|shm| root::clone_tree(shm.as_fd(), false));
    let shm = shm.step_at(Step::BindSource, "/dev/shm")?;
    join(&own, ThreadNameSpaceType::MOUNT).step(Step::JoinNamespaces)?;
    Ok(shm)
}

fn set_names(spec: &Spec) -> Result<(), SetupError> {
    if spec.namespaces.uts == Namespace::Host {
        return Ok(());
    }
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes()).step(Step::Hostname)?;
    }
    if !spec.domainname.is_empty() {
        rustix::system::setdomainname(spec.domainname.as_bytes()).step(Step::Hostname)?;
    }
    Ok(())
}

/// Opens a terminal of the container's own devpts and hands its controlling side to the supervisor.
fn open_terminal(supervisor: &Connection, console: bool) -> Result<[OwnedFd; 3], SetupError> {
    let path = Path::new("/dev/pts/ptmx");
    let open = || {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let controller = rustix::fs::open(path, flags, Mode::empty())?;
        rustix::pty::unlockpt(&controller)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = rustix::pty::ioctl_tiocgptpeer(&controller, flags)?;
        supervisor.send(&FromChild::Terminal, &[controller.as_fd()])?;
        Ok::<_, std::io::Error>(terminal)
    };
    let terminal = open().step_at(Step::Terminal, path)?;
    if console {
        mounts::bind_console(&terminal)?;
    }
    let copy = || terminal.try_clone().step_at(Step::Terminal, path);
    Ok([copy()?, copy()?, terminal])
}

fn wait_for_go(supervisor: &Connection) -> Result<(), SetupError> {
    match supervisor.receive().step(Step::Control)? {
        Some((ToChild::Go, _)) => Ok(()),
        None => Err(SetupError::Vanished),
    }
}
