//! What a power cut may have torn, and what comes back after it. The catalog's last commits may be lost with it, so that directories are left which no
//! row names; that is how everything else is found.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use engine_runtime::{RestartPolicy, StdStreams};
use engine_types::{ContainerId, SessionId};

use crate::engine::Engine;
use crate::error::{At, Error};
use crate::session::remove_dir;

/// In the run directory; holds the kernel's id of the boot that was swept in.
const MARKER: &str = "boot";

impl Engine {
    /// Once a boot, removes the directories of containers and sessions that have no row.
    pub(crate) async fn sweep_after_boot(&self) -> Result<(), Error> {
        let path = self.paths().proc_file("sys/kernel/random/boot_id");
        let boot = fs::read_to_string(&path).at(&path)?;
        let marker = self.paths().run.join(MARKER);
        if fs::read_to_string(&marker).is_ok_and(|swept| swept == boot) {
            return Ok(());
        }
        // Listed before the rows are read: a row comes before its directory.
        let containers = names::<ContainerId>(&self.paths().root.join("containers"))?;
        let sessions = names::<SessionId>(&self.paths().root.join("sessions"))?;
        let known: HashSet<ContainerId> =
            self.catalog().containers().await?.into_iter().map(|row| row.id).collect();
        for id in containers.into_iter().filter(|id| !known.contains(id)) {
            let run_dir = self.run_dir(id);
            // Somebody's, if it runs: the root was perhaps restored from a copy.
            if let Some(_claim) = engine_runtime::claim(&run_dir).at(&run_dir)? {
                tracing::info!(container = %id.short(), "removing what a power cut left");
                remove_dir(&self.state_dir(id))?;
            }
        }
        let known: HashSet<SessionId> = self.catalog().sessions().await?.into_iter().collect();
        for id in sessions.into_iter().filter(|id| !known.contains(id)) {
            remove_dir(&self.session_dir(id))?;
        }
        fs::write(&marker, boot).at(&marker)
    }

    /// Starts the containers whose restart policy wants them back though nobody looks after them any more, as after a
    /// restart of the machine: each that has ever been started, with `always`, and, unless it was stopped, with
    /// `unless-stopped`. One that cannot be started does not keep the others. For whoever looks after this root from
    /// now on; who else does so at the same time is told that they are running.
    pub async fn restart_policies_after_boot(&self) -> Result<Vec<(ContainerId, Result<(), Error>)>, Error> {
        let mut started = Vec::new();
        for container in self.containers().await? {
            let Some(state) = container.state.filter(|_| !container.running) else { continue };
            let wanted = match container.config.restart {
                RestartPolicy::Always => true,
                RestartPolicy::UnlessStopped => !state.stopped,
                RestartPolicy::No | RestartPolicy::OnFailure(_) => false,
            };
            if wanted {
                let result = self.start_container(&container.id.to_string(), StdStreams::Supervised).await;
                started.push((container.id, result.map(drop)));
            }
        }
        Ok(started)
    }
}

/// The ids that the entries of a directory are named by.
fn names<T: FromStr>(dir: &Path) -> Result<Vec<T>, Error> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let name = entry.at(dir)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    Ok(ids)
}
