//! The v2 controllers' files (kernel docs, admin-guide/cgroup-v2).

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Context, SetupError, Step};
use crate::spec::{BlockIo, Resources};

/// The controllers that containers' directories need.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuset", "io", "memory", "pids"];
/// Where the weight among containers is set, depending on the kernel's scheduler of disks.
pub(super) const WEIGHTS: [&str; 2] = ["io.bfq.weight", "io.weight"];
/// The period of `cpu.max`, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// Turns on those controllers for the directories below that are there and not on yet. Everyone does, not just who
/// made the directory: another may need its container's files before that one got here. It is looked first, because
/// even a write that changes nothing waits for the kernel to have buried all that was removed below.
pub(super) fn delegate(dir: &Path) -> Result<(), SetupError> {
    let available = words(&dir.join("cgroup.controllers"))?;
    let file = dir.join("cgroup.subtree_control");
    let on = words(&file)?;
    let missing = CONTROLLERS.iter().filter(|name| holds(&available, name) && !holds(&on, name));
    let request: Vec<String> = missing.map(|name| format!("+{name}")).collect();
    if request.is_empty() {
        return Ok(());
    }
    match fs::write(&file, request.join(" ")) {
        // A directory with processes of its own passes no controller on (where the engine itself is in a container,
        // say): a limit that needs one is refused by name, the rest works.
        Err(e) if e.raw_os_error() == Some(super::EBUSY) => Ok(()),
        result => result.step_at(Step::Cgroup, file),
    }
}

fn words(file: &Path) -> Result<Vec<String>, SetupError> {
    let text = fs::read_to_string(file).step_at(Step::Cgroup, file)?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn holds(words: &[String], word: &str) -> bool {
    words.iter().any(|w| w == word)
}

pub(super) fn apply(dir: &Path, resources: &Resources) -> Result<(), SetupError> {
    if let Some(memory) = resources.memory {
        write(dir, "memory.max", memory)?;
        let both = resources.memory_swap.unwrap_or_else(|| memory.saturating_mul(2));
        // Absent where the kernel does not account swap.
        if dir.join("memory.swap.max").exists() || resources.memory_swap.is_some() {
            write(dir, "memory.swap.max", both.saturating_sub(memory))?;
        }
    }
    if let Some(nano_cpus) = resources.nano_cpus {
        let quota = nano_cpus.saturating_mul(CPU_PERIOD) / 1_000_000_000;
        write(dir, "cpu.max", format!("{quota} {CPU_PERIOD}"))?;
    }
    if resources.cpu_quota.is_some() || resources.cpu_period.is_some() {
        let quota = resources.cpu_quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        write(dir, "cpu.max", format!("{quota} {}", resources.cpu_period.unwrap_or(CPU_PERIOD)))?;
    }
    if let Some(shares) = resources.cpu_shares {
        write(dir, "cpu.weight", weight_of_shares(shares))?;
    }
    if let Some(cpus) = &resources.cpuset_cpus {
        write(dir, "cpuset.cpus", cpus)?;
    }
    if let Some(nodes) = &resources.cpuset_mems {
        write(dir, "cpuset.mems", nodes)?;
    }
    if let Some(pids) = resources.pids {
        write(dir, "pids.max", pids)?;
    }
    if let Some(reservation) = resources.memory_reservation {
        write(dir, "memory.low", reservation)?;
    }
    apply_block_io(dir, &resources.block_io)
}

fn apply_block_io(dir: &Path, limits: &BlockIo) -> Result<(), SetupError> {
    // One kernel has the one, another the other.
    let weights = if dir.join(WEIGHTS[0]).exists() { WEIGHTS[0] } else { WEIGHTS[1] };
    if let Some(weight) = limits.weight {
        write(dir, weights, format!("default {weight}"))?;
    }
    for limit in &limits.weights {
        write(dir, weights, format!("{} {}", super::disk(&limit.path)?, limit.value))?;
    }
    for (limits, name) in [
        (&limits.read_bytes, "rbps"),
        (&limits.write_bytes, "wbps"),
        (&limits.reads, "riops"),
        (&limits.writes, "wiops"),
    ] {
        for limit in limits {
            write(dir, "io.max", format!("{} {name}={}", super::disk(&limit.path)?, limit.value))?;
        }
    }
    Ok(())
}

/// Maps v1's 2..=262144 to v2's 1..=10000, linearly, as the OCI runtimes do.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Sets one limit. Not by `fs::write`: asked to create a file, the kernel answers that the permission is missing,
/// where it is the file that is.
fn write(dir: &Path, file: &str, value: impl ToString) -> Result<(), SetupError> {
    use std::io::Write;
    let path = dir.join(file);
    match fs::OpenOptions::new().write(true).open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(SetupError::Invalid(absent(dir, file))),
        opened => opened
            .and_then(|mut open| open.write_all(value.to_string().as_bytes()))
            .step_at(Step::CgroupLimit, path),
    }
}

fn absent(dir: &Path, file: &str) -> String {
    let name = file.split('.').next().unwrap_or_default();
    match words(&dir.join("cgroup.controllers")) {
        Ok(on) if holds(&on, name) => {
            format!("cannot set a {name} limit: this kernel has no {file}")
        }
        _ => format!(
            "cannot set a {name} limit: the {name} cgroup controller does not reach {}; enable it in the \
             cgroup.subtree_control files above",
            dir.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of cgroup files as the kernel would make it.
    fn cgroup(dir: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn writes_the_limits_where_v2_has_them() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        cgroup(dir, &["memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max"].map(|f| (f, "")));
        let resources = Resources {
            memory: Some(1 << 20),
            memory_swap: Some(1 << 20),
            nano_cpus: Some(500_000_000),
            cpu_shares: Some(1024),
            pids: Some(7),
            ..Resources::default()
        };
        apply(dir, &resources).unwrap();
        let read = |file: &str| fs::read_to_string(dir.join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("cpu.max"), "50000 100000");
        assert_eq!(read("cpu.weight"), "39");
        assert_eq!(read("pids.max"), "7");
    }

    #[test]
    fn only_what_is_there_and_off_is_turned_on() {
        let root = tempfile::tempdir().unwrap();
        let on = |available, on| {
            cgroup(root.path(), &[("cgroup.controllers", available), ("cgroup.subtree_control", on)]);
            delegate(root.path()).unwrap();
            fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap()
        };
        assert_eq!(on("cpu hugetlb memory pids\n", "memory\n"), "+cpu +pids");
        assert_eq!(on("cpu hugetlb\n", "cpu\n"), "cpu\n");
        assert_eq!(on("\n", "\n"), "\n");
    }

    #[test]
    fn a_limit_whose_controller_is_missing_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let refused = |resources| {
            cgroup(root.path(), &[("cgroup.controllers", "memory\n"), ("memory.max", "")]);
            apply(root.path(), &resources).unwrap_err().to_string()
        };
        let error = refused(Resources { pids: Some(1), ..Resources::default() });
        assert!(error.starts_with("cannot set a pids limit: the pids cgroup controller does not"), "{error}");
        let swap = Resources { memory: Some(1 << 20), memory_swap: Some(1 << 20), ..Resources::default() };
        assert_eq!(refused(swap), "cannot set a memory limit: this kernel has no memory.swap.max");
    }
}
