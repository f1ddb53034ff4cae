//! The v1 controllers' files (kernel docs, admin-guide/cgroup-v1).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Context, SetupError, Step};
use crate::spec::DeviceRule as Rule;
use crate::spec::{BlockIo, Resources};

/// The controllers that a container uses where they are mounted. `cpuset` comes last: it is entered only if asked
/// for, since a new directory of it takes no process before its CPUs and memory nodes are set.
pub(super) const CONTROLLERS: [&str; 8] =
    ["memory", "cpu", "cpuacct", "pids", "devices", "freezer", "blkio", "cpuset"];

/// Where the weight among containers is set, depending on the kernel's scheduler of disks.
pub(super) const WEIGHTS: [&str; 2] = ["blkio.bfq.weight", "blkio.weight"];

/// The default period of the CPU bandwidth controller, in microseconds.
const CPU_PERIOD: u64 = 100_000;

pub(super) fn make_dirs(
    controllers: &BTreeMap<String, PathBuf>,
    parent: &str,
    id: &str,
    resources: &Resources,
) -> Result<BTreeMap<PathBuf, Vec<String>>, SetupError> {
    let mut dirs: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for (name, root) in controllers {
        if name == "cpuset" && resources.cpuset_cpus.is_none() && resources.cpuset_mems.is_none() {
            continue;
        }
        let parent = root.join(parent);
        let dir = parent.join(id);
        if name == "cpuset" {
            make_cpuset(root, &parent, &dir)?;
        } else if !dirs.contains_key(&dir) {
            super::create_in(&parent, &dir)?;
        }
        dirs.entry(dir).or_default().push(name.clone());
    }
    Ok(dirs)
}

/// Makes cpuset directories that inherit CPUs and memory nodes, without which no process may enter.
fn make_cpuset(root: &Path, parent: &Path, dir: &Path) -> Result<(), SetupError> {
    for (above, dir) in [(root, parent), (parent, dir)] {
        match fs::create_dir(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e).step_at(Step::Cgroup, dir),
            _ => {}
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = dir.join(file);
            let set = fs::read_to_string(&own).step_at(Step::Cgroup, &own)?;
            if set.trim().is_empty() {
                let inherited =
                    fs::read_to_string(above.join(file)).step_at(Step::Cgroup, above.join(file))?;
                fs::write(&own, inherited.trim()).step_at(Step::Cgroup, &own)?;
            }
        }
    }
    Ok(())
}

/// Makes a container that runs without a cpuset of its own have one: the directory is made beside its others, and every
/// process moved into it.
pub(super) fn join_cpuset(
    dirs: &mut BTreeMap<PathBuf, Vec<String>>,
    controllers: &BTreeMap<String, PathBuf>,
) -> Result<(), SetupError> {
    if controller(dirs, "cpuset").is_ok() {
        return Ok(());
    }
    let own =
        dirs.iter().next().and_then(|(dir, names)| Some((dir.clone(), controllers.get(names.first()?)?)));
    let (Some(root), Some((beside, its_root))) = (controllers.get("cpuset"), own) else {
        return controller(dirs, "cpuset").map(drop);
    };
    let Ok(below) = beside.strip_prefix(its_root) else { return controller(dirs, "cpuset").map(drop) };
    let dir = root.join(below);
    let parent = dir.parent().unwrap_or(root);
    make_cpuset(root, parent, &dir)?;
    dirs.insert(dir.clone(), vec!["cpuset".to_owned()]);
    // Those that are born meanwhile are born where their parent is: again until none is left behind.
    let tasks = dir.join("cgroup.procs");
    loop {
        let inside = super::processes(&dir).step_at(Step::Cgroup, &dir)?;
        let all = super::processes(&beside).step_at(Step::Cgroup, &beside)?;
        let outside: Vec<i32> = all.into_iter().filter(|pid| !inside.contains(pid)).collect();
        if outside.is_empty() {
            return Ok(());
        }
        for pid in outside {
            match fs::write(&tasks, pid.to_string()) {
                Err(e) if e.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {}
                result => result.step_at(Step::Cgroup, &tasks)?,
            }
        }
    }
}

pub(super) fn apply(
    dirs: &BTreeMap<PathBuf, Vec<String>>,
    resources: &Resources,
    warnings: &mut Vec<String>,
) -> Result<(), SetupError> {
    if let Some(memory) = resources.memory {
        let dir = controller(dirs, "memory")?;
        let limit = dir.join("memory.limit_in_bytes");
        let swap = resources.memory_swap.unwrap_or_else(|| memory.saturating_mul(2));
        let file = dir.join("memory.memsw.limit_in_bytes");
        if file.exists() {
            // Neither may pass the other on the way: the sum grows first and shrinks last.
            if write(&limit, memory).is_ok() {
                write(&file, swap)?;
            } else {
                write(&file, swap)?;
                write(&limit, memory)?;
            }
        } else {
            write(&limit, memory)?;
            if resources.memory_swap.is_some() {
                warnings
                    .push("swap is not limited: the kernel does not account it (swapaccount=1)".to_owned());
            }
        }
    }
    if let Some(nano_cpus) = resources.nano_cpus {
        let dir = controller(dirs, "cpu")?;
        write(&dir.join("cpu.cfs_period_us"), CPU_PERIOD)?;
        write(&dir.join("cpu.cfs_quota_us"), nano_cpus.saturating_mul(CPU_PERIOD) / 1_000_000_000)?;
    }
    if let Some(period) = resources.cpu_period {
        write(&controller(dirs, "cpu")?.join("cpu.cfs_period_us"), period)?;
    }
    if let Some(quota) = resources.cpu_quota {
        write(&controller(dirs, "cpu")?.join("cpu.cfs_quota_us"), quota)?;
    }
    if let Some(shares) = resources.cpu_shares {
        write(&controller(dirs, "cpu")?.join("cpu.shares"), shares)?;
    }
    if let Some(cpus) = &resources.cpuset_cpus {
        write(&controller(dirs, "cpuset")?.join("cpuset.cpus"), cpus)?;
    }
    if let Some(nodes) = &resources.cpuset_mems {
        write(&controller(dirs, "cpuset")?.join("cpuset.mems"), nodes)?;
    }
    if let Some(pids) = resources.pids {
        write(&controller(dirs, "pids")?.join("pids.max"), pids)?;
    }
    apply_memory(dirs, resources)?;
    apply_block_io(dirs, &resources.block_io)
}

fn apply_memory(dirs: &BTreeMap<PathBuf, Vec<String>>, resources: &Resources) -> Result<(), SetupError> {
    if let Some(reservation) = resources.memory_reservation {
        write(&controller(dirs, "memory")?.join("memory.soft_limit_in_bytes"), reservation)?;
    }
    if let Some(swappiness) = resources.swappiness {
        write(&controller(dirs, "memory")?.join("memory.swappiness"), swappiness)?;
    }
    if resources.oom_kill_disable {
        write(&controller(dirs, "memory")?.join("memory.oom_control"), 1)?;
    }
    Ok(())
}

fn apply_block_io(dirs: &BTreeMap<PathBuf, Vec<String>>, limits: &BlockIo) -> Result<(), SetupError> {
    if let Some(weight) = limits.weight {
        let dir = controller(dirs, "blkio")?;
        let file = WEIGHTS.iter().map(|name| dir.join(name)).find(|file| file.exists());
        write(&file.unwrap_or_else(|| dir.join(WEIGHTS[0])), weight)?;
    }
    for (limits, file) in [
        (&limits.weights, "blkio.weight_device"),
        (&limits.read_bytes, "blkio.throttle.read_bps_device"),
        (&limits.write_bytes, "blkio.throttle.write_bps_device"),
        (&limits.reads, "blkio.throttle.read_iops_device"),
        (&limits.writes, "blkio.throttle.write_iops_device"),
    ] {
        for limit in limits {
            let path = controller(dirs, "blkio")?.join(file);
            write(&path, format!("{} {}", super::disk(&limit.path)?, limit.value))?;
        }
    }
    Ok(())
}

/// Denies all devices, then allows the listed ones (`devices.deny`, `devices.allow`); false where there is no such
/// controller.
pub(super) fn allow_devices(
    dirs: &BTreeMap<PathBuf, Vec<String>>,
    rules: &[Rule],
) -> Result<bool, SetupError> {
    let Ok(dir) = controller(dirs, "devices") else { return Ok(false) };
    write(&dir.join("devices.deny"), "a")?;
    let allow = dir.join("devices.allow");
    rules.iter().try_for_each(|rule| write(&allow, rule))?;
    Ok(true)
}

fn controller<'a>(dirs: &'a BTreeMap<PathBuf, Vec<String>>, name: &str) -> Result<&'a Path, SetupError> {
    let found = dirs.iter().find(|(_, names)| names.iter().any(|n| n == name));
    found.map(|(dir, _)| dir.as_path()).ok_or_else(|| {
        SetupError::Invalid(format!(
            "cannot set a {name} limit: this host has no {name} cgroup controller mounted"
        ))
    })
}

fn write(path: &Path, value: impl ToString) -> Result<(), SetupError> {
    fs::write(path, value.to_string()).step_at(Step::CgroupLimit, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_limits_where_v1_has_them() {
        let root = tempfile::tempdir().unwrap();
        let controllers: BTreeMap<_, _> =
            ["memory", "cpu", "pids"].map(|n| (n.to_owned(), root.path().join(n))).into();
        controllers.values().for_each(|dir| fs::create_dir(dir).unwrap());
        let resources = Resources {
            memory: Some(1 << 20),
            nano_cpus: Some(1_500_000_000),
            pids: Some(7),
            ..Resources::default()
        };
        let dirs = make_dirs(&controllers, "lighter", "id", &resources).unwrap();
        apply(&dirs, &resources, &mut Vec::new()).unwrap();
        let read = |path: &str| fs::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(read("memory/lighter/id/memory.limit_in_bytes"), "1048576");
        assert_eq!(read("cpu/lighter/id/cpu.cfs_quota_us"), "150000");
        assert_eq!(read("pids/lighter/id/pids.max"), "7");
    }

    #[test]
    fn a_limit_without_its_controller_is_refused_by_name() {
        let error =
            apply(&BTreeMap::new(), &Resources { pids: Some(1), ..Resources::default() }, &mut Vec::new());
        assert!(error.unwrap_err().to_string().contains("no pids cgroup controller"));
    }
}
