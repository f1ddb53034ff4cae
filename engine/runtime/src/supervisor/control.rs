//! What a running container is told to be otherwise: frozen, limited.

use std::io;
use std::time::Instant;

use super::probe::Prober;
use super::serve::Server;
use crate::protocol::UpdateBody;
use crate::state::State;

impl Server<'_> {
    /// Freezes every process. Probes pause, too.
    pub(super) fn pause(&mut self) -> io::Result<()> {
        let Some(cgroup) = &self.cgroup else { return Err(not_running()) };
        cgroup.freeze()?;
        self.record(State { paused: true, ..self.state.clone() });
        Ok(())
    }

    /// Lets them go on. Probes begin anew; one that was frozen has all its time again.
    pub(super) fn unpause(&mut self) -> io::Result<()> {
        let Some(cgroup) = &self.cgroup else { return Err(not_running()) };
        cgroup.thaw()?;
        self.record(State { paused: false, ..self.state.clone() });
        let (now, pause) = (Instant::now(), self.probe_pause());
        match (&mut self.prober, &self.spec.health) {
            (Some(Prober::Waiting(next)), _) => *next = now + pause,
            (Some(Prober::Running(probe)), Some(check)) => {
                probe.deadline = probe.deadline.map(|_| now + check.timeout);
            }
            _ => {}
        }
        Ok(())
    }

    /// Sets limits and restart policy for this life and those to come.
    pub(super) fn update(&mut self, body: UpdateBody) -> io::Result<()> {
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.update(&self.host.hierarchies, &body.resources).map_err(io::Error::other)?;
        }
        self.resources = body.resources;
        self.restarts.set_policy(body.restart);
        Ok(())
    }
}

fn not_running() -> io::Error {
    io::Error::other("the container is restarting, wait until it is running")
}
