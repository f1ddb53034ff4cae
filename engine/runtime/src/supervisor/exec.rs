//! Processes added to a running container.

use std::os::fd::OwnedFd;

use engine_sys::process::Namespaces;
use rustix::process::Signal;

use super::relay::Relay;
use crate::capabilities::Capabilities;
use crate::cgroup::{Cgroup, ExecGroup};
use crate::error::{Context, SetupError, Step};
use crate::protocol::{Connection, ExecBody};
use crate::seccomp::Filters;
use crate::setup::{self, ExecChild, FromChild};
use crate::spec::{Seccomp, Security, Spec};

/// One exec, from its fork to its end.
pub(super) struct Exec {
    /// The connection that asked for it.
    pub(super) client: u64,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Open until the program runs.
    pub(super) starting: Option<Connection>,
    /// With a terminal: its streams, once it has opened one.
    pub(super) relay: Option<Relay>,
    /// With a terminal: the client's stream, until the terminal is there.
    stream: Option<OwnedFd>,
    group: Option<ExecGroup>,
    /// How often the kernel had killed a process of the container for want of memory when this one started.
    pub(super) oom_kills_before: u64,
}

/// How far a starting exec has come.
pub(super) enum Progress {
    Started,
    Failed(SetupError),
    Pending,
}

/// The container that an exec joins.
pub(super) struct Target<'a> {
    pub(super) spec: &'a Spec,
    pub(super) cgroup: &'a Cgroup,
    pub(super) filters: &'a Filters,
    pub(super) init: &'a OwnedFd,
}

impl Exec {
    /// Forks the process; its progress comes over `starting`.
    pub(super) fn spawn(
        target: &Target<'_>,
        number: u64,
        client: u64,
        body: &ExecBody,
        mut streams: Vec<OwnedFd>,
    ) -> Result<Self, SetupError> {
        let expected = if body.process.terminal { 1 } else { 3 };
        if streams.len() != expected {
            return Err(SetupError::Invalid(format!(
                "{expected} streams are expected, {} came",
                streams.len()
            )));
        }
        let stream = if body.process.terminal { streams.pop() } else { None };
        let streams = streams.try_into().ok();
        let group = target.cgroup.exec_group(number)?;
        let entry = target.cgroup.entry(group.as_ref())?;
        let (starting, theirs) = Connection::pair().step(Step::Control)?;
        let own = &target.spec.security;
        let security = if body.privileged {
            privileged(own)
        } else {
            Security { capabilities: target.cgroup.capabilities(own), ..own.clone() }
        };
        let unconfined = Filters::default();
        let filters = if body.privileged { &unconfined } else { target.filters };
        let into = group.as_ref().and_then(ExecGroup::clone_target);
        let oom_kills_before = target.cgroup.oom_kills();
        let child = engine_sys::process::spawn(Namespaces::default(), into, || {
            setup::exec_main(ExecChild {
                spec: target.spec,
                process: &body.process,
                init: target.init,
                entry,
                filters,
                security: &security,
                streams,
                supervisor: theirs,
            })
        })
        .step(Step::Fork)?;
        let (pid, pidfd) = (child.pid, child.pidfd);
        Ok(Self {
            client,
            pid,
            pidfd,
            starting: Some(starting),
            relay: None,
            stream,
            group,
            oom_kills_before,
        })
    }

    /// Takes a message of the child that is on its way.
    pub(super) fn hear(&mut self) -> Progress {
        let Some(starting) = &self.starting else { return Progress::Pending };
        match starting.receive::<FromChild>().step(Step::Control) {
            Ok(Some((FromChild::Terminal, descriptors))) => match self.take_terminal(descriptors) {
                Ok(()) => Progress::Pending,
                Err(error) => self.fail(error),
            },
            Ok(Some((FromChild::Failed(error), _))) | Err(error) => self.fail(error),
            Ok(None) => {
                self.starting = None;
                Progress::Started
            }
        }
    }

    /// Signals every process of it, or, where there is no cgroup to name them, the first.
    pub(super) fn signal(&self, number: i32) -> std::io::Result<()> {
        match (&self.group, Signal::from_named_raw(number)) {
            (Some(group), _) => group.signal(number),
            (None, Some(signal)) => Ok(rustix::process::pidfd_send_signal(&self.pidfd, signal)?),
            (None, None) => Err(std::io::ErrorKind::InvalidInput.into()),
        }
    }

    fn fail(&mut self, error: SetupError) -> Progress {
        self.starting = None;
        Progress::Failed(error)
    }

    fn take_terminal(&mut self, descriptors: Vec<OwnedFd>) -> Result<(), SetupError> {
        let (Some(controller), Some(stream)) = (descriptors.into_iter().next(), self.stream.take()) else {
            return Err(SetupError::Vanished);
        };
        let relay = Relay::terminal(controller, None).and_then(|mut relay| {
            relay.attach(stream, true, true)?;
            Ok(relay)
        });
        self.relay = Some(relay.step(Step::Terminal)?);
        Ok(())
    }
}

fn privileged(security: &Security) -> Security {
    Security { capabilities: Capabilities::all(), seccomp: Seccomp::Unconfined, ..security.clone() }
}
