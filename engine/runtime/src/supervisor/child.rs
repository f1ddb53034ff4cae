//! Making the first process and bringing it to its program.

use std::os::fd::{AsFd, OwnedFd};

use engine_sys::process::{Child, Namespaces};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use super::resolver::Resolver;
use super::{Host, reap};
use crate::cgroup::Cgroup;
use crate::error::{Context, SetupError, Step};
use crate::protocol::{Connection, Reply, Request};
use crate::setup::{self, ContainerChild, FromChild, Streams, ToChild};
use crate::spec::{Namespace, Spec};

/// A first process on its way; killed if dropped.
pub(super) struct Made {
    child: Option<Child>,
    connection: Connection,
    network: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
}

/// A first process whose program runs.
pub(super) struct Started {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Its network namespace, if it was made with the process.
    pub(super) network: Option<OwnedFd>,
    /// The terminal's controlling side, where there is one.
    pub(super) terminal: Option<OwnedFd>,
    /// Answers its DNS queries.
    pub(super) resolver: Option<Resolver>,
    /// What the launcher wants kept: the container's network goes with the last that holds it.
    pub(super) held: Option<OwnedFd>,
    /// What else it wants kept: the container's published ports are nobody else's as long as this lives.
    pub(super) kept: Vec<OwnedFd>,
}

/// Clones the first process, which sets itself up meanwhile. It joins `network`, where there is one already.
pub(super) fn make(
    spec: &Spec,
    cgroup: &Cgroup,
    host: &Host,
    streams: Streams,
    network: Option<&OwnedFd>,
) -> Result<Made, SetupError> {
    if let Some(other) = &host.joined.pid {
        // Whoever is born from here on is born there.
        enter_pid_namespace(other)?;
    }
    let (connection, theirs) = Connection::pair().step(Step::Control)?;
    let entry = cgroup.entry(None)?;
    let child =
        engine_sys::process::spawn(namespaces(spec, network.is_some()), cgroup.clone_target(), || {
            setup::container_main(ContainerChild {
                spec,
                network,
                cgroup,
                entry,
                filters: &host.filters,
                ipc: host.joined.ipc.as_ref(),
                streams,
                supervisor: theirs,
            })
        })
        .step(Step::Clone)?;
    let pid = child.pid;
    let mut made = Made { child: Some(child), connection, network: None, terminal: None };
    if spec.namespaces.network == Namespace::Private && network.is_none() {
        let path = format!("/proc/{pid}/ns/net");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty()).step_at(Step::Control, &path);
        made.network = Some(made.unless_failed(opened)?);
    }
    Ok(made)
}

/// Hands the network namespace to the launcher, waits for its word, and lets the program run.
pub(super) fn start(mut made: Made, launcher: &Connection, spec: &Spec) -> Result<Started, SetupError> {
    let network = made.network.as_ref().map(AsFd::as_fd);
    launcher.send(&Reply::NetworkReady, network.as_slice()).step(Step::Control)?;
    let (held, kept) = loop {
        match next(&made.connection, launcher)? {
            Event::Launcher => match launcher.receive::<Request>().step(Step::Control)? {
                Some((Request::Proceed { network }, mut descriptors)) => {
                    let held = (network && !descriptors.is_empty()).then(|| descriptors.remove(0));
                    break (held, descriptors);
                }
                _ => return Err(SetupError::Vanished),
            },
            Event::Child => made.hear()?.then_some(()).ok_or(SetupError::Vanished)?,
        }
    };
    // Loopback is up from here on, and nobody has asked yet.
    let resolver = match (&spec.dns, &made.network) {
        (Some(config), Some(network)) => {
            let listening = Resolver::listen(config, network.as_fd());
            Some(made.unless_failed(listening)?)
        }
        _ => None,
    };
    let told = made.connection.send(&ToChild::Go, &[]).step(Step::Control);
    made.unless_failed(told)?;
    while let Event::Child = next(&made.connection, launcher)? {
        if !made.hear()? {
            return Ok(Started { held, kept, ..made.into_started(spec, resolver)? });
        }
    }
    Err(SetupError::Vanished) // the launcher is gone
}

/// Has the next child born in this process's own PID namespace again: in that of a container that has ended, no process
/// can be made, and from it no other namespace.
pub(super) fn leave_pid_namespace() -> std::io::Result<()> {
    let own = rustix::fs::open("/proc/self/ns/pid", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let pid_namespace = rustix::thread::ThreadNameSpaceType::PROCESS_ID;
    Ok(rustix::thread::move_into_thread_name_spaces(own.as_fd(), pid_namespace)?)
}

fn enter_pid_namespace(of: &OwnedFd) -> Result<(), SetupError> {
    let pid_namespace = rustix::thread::ThreadNameSpaceType::PROCESS_ID;
    rustix::thread::move_into_thread_name_spaces(of.as_fd(), pid_namespace).step(Step::JoinNamespaces)
}

/// Lets the program run once more: its network stands.
pub(super) fn resume(mut made: Made, spec: &Spec) -> Result<Started, SetupError> {
    let told = made.connection.send(&ToChild::Go, &[]).step(Step::Control);
    made.unless_failed(told)?;
    while made.hear()? {}
    made.into_started(spec, None)
}

enum Event {
    Launcher,
    Child,
}

fn next(child: &Connection, launcher: &Connection) -> Result<Event, SetupError> {
    let mut poll = [PollFd::new(child, PollFlags::IN), PollFd::new(launcher, PollFlags::IN)];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, None)).step(Step::Control)?;
    Ok(if poll[0].revents().is_empty() { Event::Launcher } else { Event::Child })
}

impl Made {
    /// The result of a step that a living child is needed for; where it has failed meanwhile, what it said of why.
    fn unless_failed<T>(&mut self, result: Result<T, SetupError>) -> Result<T, SetupError> {
        while result.is_err() && self.has_spoken()? && self.hear()? {}
        result
    }

    fn has_spoken(&self) -> Result<bool, SetupError> {
        let mut poll = [PollFd::new(&self.connection, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = rustix::io::retry_on_intr(|| rustix::event::poll(&mut poll, Some(&at_once)));
        ready.map(|count| count > 0).step(Step::Control)
    }

    /// Takes a message of the child; false if it has closed its end.
    fn hear(&mut self) -> Result<bool, SetupError> {
        match self.connection.receive::<FromChild>().step(Step::Control)? {
            Some((FromChild::Terminal, descriptors)) => {
                self.terminal = descriptors.into_iter().next();
                Ok(true)
            }
            Some((FromChild::Failed(error), _)) => Err(error),
            None => Ok(false),
        }
    }

    fn into_started(mut self, spec: &Spec, resolver: Option<Resolver>) -> Result<Started, SetupError> {
        let child = self.child.take().ok_or(SetupError::Vanished)?;
        if spec.namespaces.pid == Namespace::Private {
            // Children of this process are born in the container from now on: that is how exec gets there.
            let pid_namespace = rustix::thread::ThreadNameSpaceType::PROCESS_ID;
            match rustix::thread::move_into_thread_name_spaces(child.pidfd.as_fd(), pid_namespace) {
                // It may have ended already; there will be no exec then.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(e) => return Err(e).step(Step::JoinNamespaces),
            }
        }
        let terminal = self.terminal.take();
        let network = self.network.take();
        let (held, kept) = (None, Vec::new());
        Ok(Started { pid: child.pid, pidfd: child.pidfd, network, terminal, resolver, held, kept })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            // It may have ended by itself.
            let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL);
            let _ = reap(&child.pidfd);
        }
    }
}

fn namespaces(spec: &Spec, joins_network: bool) -> Namespaces {
    let mut set = Namespaces::MOUNT;
    for (mode, namespace) in [
        (spec.namespaces.network, Namespaces::NET),
        (spec.namespaces.pid, Namespaces::PID),
        (spec.namespaces.ipc, Namespaces::IPC),
        (spec.namespaces.uts, Namespaces::UTS),
    ] {
        if mode == Namespace::Private && !(joins_network && namespace == Namespaces::NET) {
            set = set.with(namespace);
        }
    }
    set
}
