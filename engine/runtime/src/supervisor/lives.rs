//! One end of the first process after the other: what each leaves, and the next beginning.

use std::time::Instant;

use jiff::Timestamp;

use super::serve::{Life, Server};
use super::{begin, child, exit_reply, exited, reap};
use crate::error::{Context, SetupError, Step};
use crate::protocol::{LaunchIo, Reply};
use crate::state::{State, Status};

impl Server<'_> {
    /// The first process has ended: the kernel has killed what was in its PID namespace, the cgroup has the rest.
    pub(super) fn end_life(&mut self) -> Result<(), SetupError> {
        let Some(init) = self.init.take() else { return Ok(()) };
        let code = reap(&init).step(Step::Control)?;
        let oom_killed = self.oom_kills() > 0;
        if let Some(cgroup) = &self.cgroup {
            // Without a PID namespace of its own the container may have left processes; what cannot be killed now is
            // swept when the engine is opened next.
            let _ = cgroup.kill();
        }
        self.prober = None;
        for number in self.execs.keys().copied().collect::<Vec<_>>() {
            self.exec_ended(number);
        }
        if let Some(relay) = self.relay.take() {
            relay.finish();
        }
        let pause = self.restarts.after(code, self.stopped, self.born.elapsed());
        let status = if pause.is_some() { Status::Restarting } else { Status::Exited };
        let stopped = self.stopped;
        self.record(State { status, stopped, ..exited(&self.state, code, oom_killed) });
        self.cgroup = None;
        self.due = pause.map(|pause| Instant::now() + pause);
        if self.due.is_some() {
            self.tell_end();
        }
        Ok(())
    }

    /// Runs the program again, in the same network namespace.
    pub(super) fn revive(&mut self) -> Result<(), SetupError> {
        self.due = None;
        match self.make_life() {
            Ok(life) => {
                let pid = Some(life.started.pid);
                self.live(life);
                self.end_told = false;
                self.record(State {
                    status: Status::Running,
                    pid,
                    started_at: Some(Timestamp::now()),
                    exit_code: None,
                    oom_killed: false,
                    restart_count: self.restarts.count,
                    ..self.state.clone()
                });
                let pid = self.state.pid.unwrap_or_default();
                self.tell_followers(&Reply::Started { pid, warnings: Vec::new() });
                Ok(())
            }
            Err(error) => {
                let code = Some(error.exit_code());
                let text = Some(error.to_string());
                self.record(State {
                    status: Status::Exited,
                    exit_code: code,
                    error: text,
                    ..self.state.clone()
                });
                Err(error)
            }
        }
    }

    fn make_life(&self) -> Result<Life, SetupError> {
        child::leave_pid_namespace().step(Step::JoinNamespaces)?;
        let network = self.network.as_ref();
        begin(
            self.spec,
            &self.host,
            (LaunchIo::Supervised, Vec::new()),
            &mut Vec::new(),
            |made| child::resume(made, self.spec),
            network,
            &self.resources,
        )
    }

    /// It was stopped while it waited to be restarted.
    pub(super) fn stay_down(&mut self) {
        self.due = None;
        self.record(State { status: Status::Exited, stopped: true, ..self.state.clone() });
    }

    /// Takes everything back and tells who waits.
    pub(super) fn close(mut self) -> Result<(), SetupError> {
        // The ports are led nowhere before they are free, and free before anybody is told, or finds nobody listening.
        drop(self.cleanup.take());
        self.kept.clear();
        drop(self.network.take());
        drop(self.listener.take());
        self.tell_end();
        self.stored.map_err(SetupError::from)
    }

    /// Tells how the last life ended.
    fn tell_end(&mut self) {
        let reply = self.last_exit();
        if !std::mem::replace(&mut self.end_told, true) {
            self.tell_followers(&reply);
        }
        for client in self.clients.values_mut().filter(|client| client.waits) {
            client.waits = false;
            let _ = client.connection.send(&reply, &[]); // who is gone need not know
        }
    }

    pub(super) fn last_exit(&self) -> Reply {
        exit_reply(self.state.exit_code.unwrap_or_default(), self.state.oom_killed)
    }

    pub(super) fn tell_followers(&self, reply: &Reply) {
        for client in self.clients.values().filter(|client| client.follows) {
            let _ = client.connection.send(reply, &[]); // who is gone need not know
        }
    }

    /// Writes the state; the container goes on though it could not be written.
    pub(super) fn record(&mut self, state: State) {
        self.stored = state.store(&self.spec.state_dir);
        self.state = state;
    }
}
