//! What a root does not know of though it is its own, and what comes back after a boot. A power cut may take the
//! catalog's last commits, so that directories are left which no row names; that is how everything else is found.
//! Somebody may have deleted the whole root, and with it the rows of bridges that still stand.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::str::FromStr;

use engine_runtime::{RestartPolicy, StdStreams};
use engine_types::{ContainerId, NetworkId};
use rustix::fs::FlockOperation;

use crate::engine::{Engine, blocking};
use crate::error::{At, Error};
use crate::session::remove_dir;

/// In the root; holds the kernel's id of the boot that was swept in.
const MARKER: &str = "boot";

impl Engine {
    /// Once a boot, removes containers' directories, networks' interfaces and networks' rules that have no row. Whoever
    /// opens the root meanwhile waits: nothing is made in it that this could take for a leftover.
    pub(crate) async fn sweep_after_boot(&self) -> Result<(), Error> {
        let path = self.paths().proc_file("sys/kernel/random/boot_id");
        let boot = fs::read_to_string(&path).at(&path)?;
        let marker = self.paths().root.join(MARKER);
        if fs::read_to_string(&marker).is_ok_and(|swept| swept == boot) {
            return Ok(());
        }
        let open = marker.clone();
        let mut file = blocking(move || {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&open)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            Ok::<_, std::io::Error>(file)
        })
        .await
        .at(&marker)?;
        let mut swept = String::new();
        file.read_to_string(&mut swept).at(&marker)?;
        if swept == boot {
            return Ok(());
        }
        self.sweep_directories().await?;
        self.sweep_networks().await?;
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(boot.as_bytes()))
            .at(&marker)
    }

    async fn sweep_directories(&self) -> Result<(), Error> {
        let mut containers = ids::<ContainerId>(&self.paths().root.join("containers"))?;
        containers.extend(ids::<ContainerId>(&self.paths().run.join("containers"))?);
        let known: HashSet<ContainerId> =
            self.catalog().containers().await?.into_iter().map(|row| row.id).collect();
        for id in containers.into_iter().filter(|id| !known.contains(id)) {
            let run_dir = self.run_dir(id);
            // Somebody's, if it runs: the root was perhaps restored from a copy.
            if let Some(_claim) = engine_runtime::claim(&run_dir).at(&run_dir)? {
                tracing::info!(container = %id.short(), "removing what no row names");
                remove_dir(&self.state_dir(id))?;
                remove_dir(&run_dir)?;
            }
        }
        Ok(())
    }

    async fn sweep_networks(&self) -> Result<(), Error> {
        let known: HashSet<NetworkId> =
            self.catalog().networks().await?.into_iter().map(|row| row.id).collect();
        let dir = self.paths().run.join("networks");
        for id in ids::<NetworkId>(&dir)?.into_iter().filter(|id| !known.contains(id)) {
            remove_dir(&dir.join(id.to_string()))?;
        }
        let engine = self.clone();
        if let Err(error) = blocking(move || engine.driver().sweep(&known)).await {
            // It must not keep anybody from working; the next boot sees to it.
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(
                error,
                "interfaces or rules of networks that are no more stay until the next boot"
            );
        }
        Ok(())
    }

    /// Starts the containers whose restart policy wants them back though nobody looks after them any more, as after a
    /// restart of the machine: each that has ever been started, with `always`, and, unless it was stopped, with
    /// `unless-stopped`, or with `on-failure` if it has not succeeded and may be restarted once more. One that cannot be started does not keep the others. For whoever looks after this root from
    /// now on; who else does so at the same time is told that they are running.
    pub async fn restart_policies_after_boot(&self) -> Result<Vec<(ContainerId, Result<(), Error>)>, Error> {
        let mut started = Vec::new();
        for container in self.containers().await? {
            let Some(state) = container.state.filter(|_| !container.running) else { continue };
            let wanted = match container.config.restart {
                RestartPolicy::Always => true,
                RestartPolicy::UnlessStopped => !state.stopped,
                RestartPolicy::OnFailure(most) => {
                    let failed = state.exit_code != Some(0);
                    !state.stopped && failed && most.is_none_or(|most| state.restart_count < most)
                }
                RestartPolicy::No => false,
            };
            if wanted {
                let result = self.start_container(&container.id.to_string(), StdStreams::Supervised).await;
                started.push((container.id, result.map(drop)));
            }
        }
        Ok(started)
    }
}

/// What has an entry in a directory that bears its id.
fn ids<T: FromStr>(dir: &Path) -> Result<Vec<T>, Error> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let name = entry.at(dir)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse().ok()));
    }
    Ok(ids)
}
