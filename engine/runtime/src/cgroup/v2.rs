//! The v2 controllers' files (kernel docs, admin-guide/cgroup-v2).

use std::fs;
use std::path::Path;

use crate::error::{Context, SetupError, Step};
use crate::spec::Resources;

/// The controllers that containers' directories need.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
/// The period of `cpu.max`, in microseconds.
const CPU_PERIOD: u64 = 100_000;

pub(super) fn make_dirs(root: &Path, parent: &Path, dir: &Path) -> Result<(), SetupError> {
    super::create_in(parent, dir, || {
        delegate(root);
        delegate(parent);
    })
}

/// Turns the controllers on for the directories below. One that is not there, or may not be, is missed only by a
/// limit that needs it, and is named then.
fn delegate(dir: &Path) {
    for controller in CONTROLLERS {
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

pub(super) fn apply(dir: &Path, resources: &Resources) -> Result<(), SetupError> {
    if let Some(memory) = resources.memory {
        write(dir, "memory.max", memory)?;
        let both = resources.memory_swap.unwrap_or_else(|| memory.saturating_mul(2));
        if dir.join("memory.swap.max").exists() || resources.memory_swap.is_some() {
            write(dir, "memory.swap.max", both.saturating_sub(memory))?;
        }
    }
    if let Some(nano_cpus) = resources.nano_cpus {
        let quota = nano_cpus.saturating_mul(CPU_PERIOD) / 1_000_000_000;
        write(dir, "cpu.max", format!("{quota} {CPU_PERIOD}"))?;
    }
    if let Some(shares) = resources.cpu_shares {
        write(dir, "cpu.weight", weight_of_shares(shares))?;
    }
    if let Some(cpus) = &resources.cpuset_cpus {
        write(dir, "cpuset.cpus", cpus)?;
    }
    if let Some(pids) = resources.pids {
        write(dir, "pids.max", pids)?;
    }
    Ok(())
}

/// Maps v1's 2..=262144 to v2's 1..=10000, linearly, as the OCI runtimes do.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn write(dir: &Path, file: &str, value: impl ToString) -> Result<(), SetupError> {
    let path = dir.join(file);
    fs::write(&path, value.to_string()).step_at(Step::CgroupLimit, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_limits_where_v2_has_them() {
        let root = tempfile::tempdir().unwrap();
        let (parent, dir) = (root.path().join("lighter"), root.path().join("lighter/id"));
        make_dirs(root.path(), &parent, &dir).unwrap();
        let resources = Resources {
            memory: Some(1 << 20),
            memory_swap: Some(1 << 20),
            nano_cpus: Some(500_000_000),
            cpu_shares: Some(1024),
            pids: Some(7),
            ..Resources::default()
        };
        apply(&dir, &resources).unwrap();
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("cpu.max"), "50000 100000");
        assert_eq!(read("cpu.weight"), "39");
        assert_eq!(read("pids.max"), "7");
    }
}
