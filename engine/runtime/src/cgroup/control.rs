//! What is done to a container's cgroup while it runs: freezing, and other limits.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Cgroup, Hierarchies, Layout, v1, v2};
use crate::error::SetupError;
use crate::spec::Resources;

/// How long the kernel may take to freeze all processes; one in an uninterruptible sleep holds it up.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before it is asked again: it begins so and doubles each time.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

impl Cgroup {
    /// Freezes every process; returns once all are, or none is.
    pub(crate) fn freeze(&self) -> io::Result<()> {
        let frozen = match &self.layout {
            Layout::V2 { dir, .. } => {
                fs::write(dir.join("cgroup.freeze"), "1")?;
                wait_until(|| Ok(fs::read_to_string(dir.join("cgroup.events"))?.contains("frozen 1")))?
            }
            Layout::V1 { dirs } => {
                let state = freezer(dirs)?;
                // To write it again is how the kernel is made to look again (admin-guide/cgroup-v1/freezer-subsystem).
                wait_until(|| {
                    fs::write(&state, "FROZEN")?;
                    Ok(fs::read_to_string(&state)?.trim_end() == "FROZEN")
                })?
            }
            Layout::None => return Err(no_freezer()),
        };
        if !frozen {
            self.thaw()?;
            return Err(io::Error::other(format!("its processes were not frozen within {FREEZE_TIMEOUT:?}")));
        }
        Ok(())
    }

    /// Lets every process go on.
    pub(crate) fn thaw(&self) -> io::Result<()> {
        match &self.layout {
            Layout::V2 { dir, .. } => fs::write(dir.join("cgroup.freeze"), "0"),
            Layout::V1 { dirs } => fs::write(freezer(dirs)?, "THAWED"),
            Layout::None => Err(no_freezer()),
        }
    }

    /// Sets the limits that are given.
    pub(crate) fn update(
        &mut self,
        hierarchies: &Hierarchies,
        resources: &Resources,
    ) -> Result<(), SetupError> {
        match (&mut self.layout, hierarchies) {
            (Layout::V2 { dir, .. }, _) => v2::apply(dir, resources),
            (Layout::V1 { dirs }, Hierarchies::V1 { controllers }) => {
                if resources.cpuset_cpus.is_some() || resources.cpuset_mems.is_some() {
                    v1::join_cpuset(dirs, controllers)?;
                }
                v1::apply(dirs, resources, &mut Vec::new())
            }
            _ => {
                Err(SetupError::Invalid("no cgroup hierarchy is mounted: nothing can be limited".to_owned()))
            }
        }
    }
}

fn freezer(dirs: &BTreeMap<PathBuf, Vec<String>>) -> io::Result<PathBuf> {
    let dir = dirs.iter().find(|(_, names)| names.iter().any(|name| name == "freezer"));
    dir.map(|(dir, _)| dir.join("freezer.state")).ok_or_else(no_freezer)
}

fn no_freezer() -> io::Error {
    io::Error::other("this host has no freezer cgroup controller mounted")
}

/// Whether it came to be in time.
fn wait_until(mut done: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
    let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
    while !done()? {
        if started.elapsed() >= FREEZE_TIMEOUT {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(true)
}
