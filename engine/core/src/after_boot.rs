//! What a power cut may have torn. The catalog's last commits may be lost with it, so that directories are left which no
//! row names; that is how everything else is found.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use engine_types::ContainerId;

use crate::engine::Engine;
use crate::error::{At, Error};
use crate::session::remove_dir;

/// In the run directory; holds the kernel's id of the boot that was swept in.
const MARKER: &str = "boot";

impl Engine {
    /// Once a boot, removes the directories of containers that have no row.
    pub(crate) async fn sweep_after_boot(&self) -> Result<(), Error> {
        let path = self.paths().proc_file("sys/kernel/random/boot_id");
        let boot = fs::read_to_string(&path).at(&path)?;
        let marker = self.paths().run.join(MARKER);
        if fs::read_to_string(&marker).is_ok_and(|swept| swept == boot) {
            return Ok(());
        }
        // Listed before the rows are read: a row comes before its directory.
        let containers = ids(&self.paths().root.join("containers"))?;
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
        fs::write(&marker, boot).at(&marker)
    }
}

/// The containers that have an entry in a directory.
fn ids(dir: &Path) -> Result<Vec<ContainerId>, Error> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let name = entry.at(dir)?.file_name();
        ids.extend(name.to_str().and_then(|name| name.parse::<ContainerId>().ok()));
    }
    Ok(ids)
}
