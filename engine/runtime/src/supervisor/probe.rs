//! Health probes: execs of the supervisor's own, one at a time.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;

use super::exec::{Exec, Target};
use super::serve::Server;
use crate::error::{Context, SetupError, Step};
use crate::health::{Health, HealthCheck, OUTPUT_MAX, ProbeResult};
use crate::protocol::{ExecBody, Reply};
use crate::spec::Process;
use crate::state::State;

/// What belongs to the probes of one life.
pub(super) enum Prober {
    /// The next one begins then.
    Waiting(Instant),
    /// One runs.
    Running(Probe),
}

/// A probe under way.
pub(super) struct Probe {
    /// Its number among the execs.
    exec: u64,
    pub(super) output: Option<OwnedFd>,
    text: Vec<u8>,
    start: Timestamp,
    began: Instant,
    /// When it has taken too long; none once it was killed for that.
    pub(super) deadline: Option<Instant>,
}

impl Server<'_> {
    /// Has the first probe of a life come after the usual pause.
    pub(super) fn begin_probes(&mut self) {
        let Some(check) = &self.spec.health else { return };
        self.state.health = Some(Health::default());
        self.prober = Some(Prober::Waiting(self.born + Health::default().pause(check, Duration::ZERO)));
    }

    /// The pause before a probe that begins anew.
    pub(super) fn probe_pause(&self) -> Duration {
        match (&self.spec.health, &self.state.health) {
            (Some(check), Some(health)) => health.pause(check, self.born.elapsed()),
            _ => Duration::ZERO,
        }
    }

    /// When the probes want to be looked after; not while the container is frozen.
    pub(super) fn probe_deadline(&self) -> Option<Instant> {
        if self.state.paused {
            return None;
        }
        match self.prober.as_ref()? {
            Prober::Waiting(next) => Some(*next),
            Prober::Running(probe) => probe.deadline,
        }
    }

    /// Begins the probe that is due, or kills the one that takes too long.
    pub(super) fn look_after_probes(&mut self, now: Instant) {
        let Some(check) = self.spec.health.as_ref().filter(|_| !self.state.paused) else { return };
        match &mut self.prober {
            Some(Prober::Waiting(next)) if *next <= now => {
                let (start, began) = (Timestamp::now(), now);
                match self.probe(check) {
                    Ok((exec, output)) => {
                        let deadline = Some(now + check.timeout);
                        let (output, text) = (Some(output), Vec::new());
                        self.prober =
                            Some(Prober::Running(Probe { exec, output, text, start, began, deadline }));
                    }
                    Err(error) => self.take_result(check, start, began, -1, error.to_string()),
                }
            }
            Some(Prober::Running(probe)) if probe.deadline.is_some_and(|deadline| deadline <= now) => {
                probe.deadline = None;
                if let Some(exec) = self.execs.get(&probe.exec) {
                    // One that has ended meanwhile is heard of.
                    let _ = exec.signal(Signal::KILL.as_raw());
                }
            }
            _ => {}
        }
    }

    /// Takes some of the probe's output; what is too much is thrown away.
    pub(super) fn take_probe_output(&mut self) {
        if let Some(Prober::Running(probe)) = &mut self.prober {
            probe.read();
        }
    }

    /// An exec has ended, or could not be started: if it was the probe, its result counts.
    pub(super) fn probe_ended(&mut self, exec: u64, outcome: Result<i32, &SetupError>) {
        let (Some(check), Some(Prober::Running(probe))) = (&self.spec.health, &mut self.prober) else {
            return;
        };
        if probe.exec != exec {
            return;
        }
        while probe.read() {}
        let mut output = String::from_utf8_lossy(&probe.text).into_owned();
        let code = match outcome {
            _ if probe.deadline.is_none() => {
                output.insert_str(0, &format!("Health check exceeded timeout ({:?}): ", check.timeout));
                -1
            }
            Ok(code) => code,
            Err(error) => {
                output = error.to_string();
                -1
            }
        };
        let (start, began) = (probe.start, probe.began);
        self.take_result(check, start, began, code, output);
    }

    fn probe(&mut self, check: &HealthCheck) -> Result<(u64, OwnedFd), SetupError> {
        let (Some(init), Some(cgroup)) = (&self.init, &self.cgroup) else { return Err(SetupError::Vanished) };
        let target = Target { spec: self.spec, cgroup, filters: &self.host.filters, init };
        let process =
            Process { args: check.args.clone(), terminal: false, stdin: false, ..self.spec.process.clone() };
        let (output, stdout) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).step(Step::Stdio)?;
        rustix::io::ioctl_fionbio(&output, true).step(Step::Stdio)?;
        let null: OwnedFd = File::open("/dev/null").step(Step::Stdio)?.into();
        let stderr = stdout.try_clone().step(Step::Stdio)?;
        self.last += 1;
        let number = self.last;
        let body = ExecBody { process, privileged: false };
        let exec = Exec::spawn(&target, number, number, &body, vec![null, stdout, stderr])?;
        self.execs.insert(number, exec);
        Ok((number, output))
    }

    fn take_result(
        &mut self,
        check: &HealthCheck,
        start: Timestamp,
        began: Instant,
        code: i32,
        output: String,
    ) {
        let result = ProbeResult { start, end: Timestamp::now(), exit_code: code, output };
        let mut health = self.state.health.take().unwrap_or_default();
        let changed = health.count(check, result, began.saturating_duration_since(self.born));
        let now = Instant::now();
        let pause = health.pause(check, now.saturating_duration_since(self.born));
        self.prober = Some(Prober::Waiting(now + pause));
        let status = health.status;
        self.record(State { health: Some(health), ..self.state.clone() });
        if changed {
            self.tell_followers(&Reply::Health { status });
            let watching = self.clients.iter().filter(|(_, client)| client.watches);
            for number in watching.map(|(&number, _)| number).collect::<Vec<_>>() {
                self.reply(number, &Reply::Health { status });
            }
        }
    }
}

impl Probe {
    /// Whether there may be more.
    fn read(&mut self) -> bool {
        let Some(output) = &self.output else { return false };
        let mut buffer = [0; OUTPUT_MAX];
        match rustix::io::read(output, &mut buffer) {
            Ok(length @ 1..) => {
                let room = OUTPUT_MAX - self.text.len();
                self.text.extend_from_slice(&buffer[..length.min(room)]);
                true
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Ok(_) | Err(_) => {
                self.output = None;
                false
            }
        }
    }
}
