//! What a container uses, as its cgroup counts it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Hierarchies, is_gone};

/// Reads what one container uses; anyone may, at any time.
#[derive(Debug, Clone)]
pub struct Meter {
    /// Its directory in each hierarchy, by controller; on v2 one for all.
    dirs: BTreeMap<String, PathBuf>,
    unified: Option<PathBuf>,
}

/// What a container has used since its start, and uses now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Whether the host counts by cgroup v2, which names some things otherwise.
    pub unified: bool,
    /// Processors.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Processes and threads now.
    pub pids: u64,
    /// How many it may have, if there is a limit.
    pub pids_limit: Option<u64>,
    /// Bytes moved from and to block devices.
    pub io_bytes: Vec<BlockIo>,
    /// Requests to block devices.
    pub io_requests: Vec<BlockIo>,
}

/// Time on processors, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// In all.
    pub total: u64,
    /// In user mode.
    pub user: u64,
    /// In the kernel.
    pub kernel: u64,
    /// Of each processor; v1 only.
    pub each: Vec<u64>,
    /// Periods of the bandwidth controller in which it ran.
    pub periods: u64,
    /// Those of them in which it was held back.
    pub throttled_periods: u64,
    /// How long it was held back.
    pub throttled: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Now, caches included.
    pub usage: u64,
    /// The most there was; v1 only.
    pub max: Option<u64>,
    /// What it may use, if there is a limit.
    pub limit: Option<u64>,
    /// How often it ran into that.
    pub failures: u64,
    /// The kernel's own account (`memory.stat`).
    pub stat: BTreeMap<String, u64>,
}

/// What was done to a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockIo {
    /// Its number.
    pub major: u64,
    /// Its number.
    pub minor: u64,
    /// `read`, `write` and on v1 others and `total`, in lower case.
    pub operation: String,
    /// How much.
    pub value: u64,
}

impl Meter {
    /// That of the container `id` below `parent`.
    pub fn new(hierarchies: &Hierarchies, parent: &str, id: &str) -> Self {
        let own = |root: &PathBuf| root.join(parent).join(id);
        match hierarchies {
            Hierarchies::V2 { root } => Self { dirs: BTreeMap::new(), unified: Some(own(root)) },
            Hierarchies::V1 { controllers } => {
                let dirs = controllers.iter().map(|(name, root)| (name.clone(), own(root))).collect();
                Self { dirs, unified: None }
            }
            Hierarchies::None => Self { dirs: BTreeMap::new(), unified: None },
        }
    }

    /// The container's processes, those of its execs included, by their ids on the host.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let counted = ["pids", "freezer", "memory", "cpu"].iter().find_map(|name| self.dirs.get(*name));
        let dir = self.unified.as_ref().or(counted).ok_or_else(|| {
            io::Error::other("this host has no cgroup hierarchy that tells a container's processes")
        })?;
        super::processes(dir)
    }

    /// What is used now. What the host does not count is zero.
    pub fn usage(&self) -> io::Result<Usage> {
        match &self.unified {
            Some(dir) => unified(dir),
            None => self.by_controllers(),
        }
    }

    fn by_controllers(&self) -> io::Result<Usage> {
        let file = |controller: &str, file: &str| match self.dirs.get(controller) {
            Some(dir) => read(&dir.join(file)),
            None => Ok(String::new()),
        };
        let stat = pairs(&file("cpuacct", "cpuacct.stat")?);
        let throttling = pairs(&file("cpu", "cpu.stat")?);
        let each = file("cpuacct", "cpuacct.usage_percpu")?;
        let cpu = CpuUsage {
            total: number(&file("cpuacct", "cpuacct.usage")?),
            user: of(&stat, "user") * TICK,
            kernel: of(&stat, "system") * TICK,
            each: each.split_whitespace().filter_map(|time| time.parse().ok()).collect(),
            periods: of(&throttling, "nr_periods"),
            throttled_periods: of(&throttling, "nr_throttled"),
            throttled: of(&throttling, "throttled_time"),
        };
        let memory = MemoryUsage {
            usage: number(&file("memory", "memory.usage_in_bytes")?),
            max: Some(number(&file("memory", "memory.max_usage_in_bytes")?)),
            limit: Some(number(&file("memory", "memory.limit_in_bytes")?))
                .filter(|&limit| limit > 0 && limit < UNLIMITED),
            failures: number(&file("memory", "memory.failcnt")?),
            stat: pairs(&file("memory", "memory.stat")?),
        };
        Ok(Usage {
            unified: false,
            cpu,
            memory,
            pids: number(&file("pids", "pids.current")?),
            pids_limit: file("pids", "pids.max")?.trim().parse().ok(),
            io_bytes: devices(&file("blkio", "blkio.throttle.io_service_bytes_recursive")?),
            io_requests: devices(&file("blkio", "blkio.throttle.io_serviced_recursive")?),
        })
    }
}

/// v1 says "no limit" with the largest number of whole pages.
const UNLIMITED: u64 = i64::MAX as u64 & !0xffff;
/// A tick of `cpuacct.stat`, in nanoseconds: `USER_HZ` is 100 on every architecture we run on.
const TICK: u64 = 10_000_000;

fn unified(dir: &Path) -> io::Result<Usage> {
    let file = |name: &str| read(&dir.join(name));
    let stat = pairs(&file("cpu.stat")?);
    let micro = |name| of(&stat, name) * 1000;
    let cpu = CpuUsage {
        total: micro("usage_usec"),
        user: micro("user_usec"),
        kernel: micro("system_usec"),
        each: Vec::new(),
        periods: of(&stat, "nr_periods"),
        throttled_periods: of(&stat, "nr_throttled"),
        throttled: micro("throttled_usec"),
    };
    let memory = MemoryUsage {
        usage: number(&file("memory.current")?),
        max: None,
        limit: file("memory.max")?.trim().parse().ok(),
        failures: of(&pairs(&file("memory.events")?), "max"),
        stat: pairs(&file("memory.stat")?),
    };
    let io = file("io.stat")?;
    Ok(Usage {
        unified: true,
        cpu,
        memory,
        pids: number(&file("pids.current")?),
        pids_limit: file("pids.max")?.trim().parse().ok(),
        io_bytes: unified_devices(&io, "rbytes", "wbytes"),
        io_requests: unified_devices(&io, "rios", "wios"),
    })
}

/// A file's text; nothing if the controller is not on or the container is gone.
fn read(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(e) if is_gone(&e) => Ok(String::new()),
        result => result,
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// `name value` lines.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn of(pairs: &BTreeMap<String, u64>, name: &str) -> u64 {
    pairs.get(name).copied().unwrap_or_default()
}

/// v1's lines: `8:0 Read 4096`; the last, `Total 4096`, is of no device.
fn devices(text: &str) -> Vec<BlockIo> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (major, minor) = words.next()?.split_once(':')?;
        let (operation, value) = (words.next()?.to_lowercase(), words.next()?.parse().ok()?);
        Some(BlockIo { major: major.parse().ok()?, minor: minor.parse().ok()?, operation, value })
    };
    text.lines().filter_map(entry).collect()
}

/// v2's lines: `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …`.
fn unified_devices(text: &str, read: &str, written: &str) -> Vec<BlockIo> {
    let mut entries = Vec::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let numbers = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = numbers.map(|(major, minor)| (major.parse(), minor.parse()))
        else {
            continue;
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let operation = match name {
                name if name == read => "read",
                name if name == written => "write",
                _ => continue,
            };
            entries.push(BlockIo { major, minor, operation: operation.to_owned(), value: number(value) });
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of a made-up hierarchy.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn both_versions_are_read() {
        let root = tree(&[
            ("p/c/cpu.stat", "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnr_periods 4\n"),
            ("p/c/memory.current", "4096\n"),
            ("p/c/memory.max", "max\n"),
            ("p/c/memory.stat", "anon 12\ninactive_file 5\n"),
            ("p/c/pids.current", "3\n"),
            ("p/c/pids.max", "9\n"),
            ("p/c/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
            ("p/c/cgroup.procs", "12\n"),
            ("p/c/exec-1/cgroup.procs", "13\n"),
        ]);
        let meter = Meter::new(&Hierarchies::V2 { root: root.path().to_owned() }, "p", "c");
        let usage = meter.usage().unwrap();
        assert_eq!((usage.cpu.total, usage.cpu.user, usage.cpu.periods), (30_000, 10_000, 4));
        assert_eq!((usage.memory.usage, usage.memory.limit), (4096, None));
        assert_eq!((usage.pids, usage.pids_limit), (3, Some(9)));
        let io: Vec<u64> = usage.io_bytes.iter().chain(&usage.io_requests).map(|io| io.value).collect();
        assert_eq!(io, [1, 2, 3, 4]);
        assert_eq!(meter.processes().unwrap(), [12, 13]);

        let root = tree(&[
            ("cpuacct/p/c/cpuacct.usage", "70\n"),
            ("cpuacct/p/c/cpuacct.usage_percpu", "30 40 \n"),
            ("cpuacct/p/c/cpuacct.stat", "user 1\nsystem 2\n"),
            ("memory/p/c/memory.usage_in_bytes", "4096\n"),
            ("memory/p/c/memory.limit_in_bytes", "9223372036854771712\n"),
            ("blkio/p/c/blkio.throttle.io_service_bytes_recursive", "8:0 Read 7\n8:0 Total 7\nTotal 7\n"),
            ("pids/p/c/pids.max", "max\n"),
        ]);
        let controllers = ["cpuacct", "memory", "blkio", "pids"];
        let controllers = controllers.map(|name| (name.to_owned(), root.path().join(name))).into();
        let usage = Meter::new(&Hierarchies::V1 { controllers }, "p", "c").usage().unwrap();
        assert_eq!((usage.cpu.total, usage.cpu.each.as_slice()), (70, [30, 40].as_slice()));
        assert_eq!(usage.cpu.kernel, 20_000_000);
        assert_eq!((usage.memory.limit, usage.pids_limit), (None, None));
        let operations: Vec<&str> = usage.io_bytes.iter().map(|io| io.operation.as_str()).collect();
        assert_eq!(operations, ["read", "total"]);
    }

    #[test]
    fn a_container_that_is_gone_uses_nothing() {
        let root = tempfile::tempdir().unwrap();
        let meter = Meter::new(&Hierarchies::V2 { root: root.path().to_owned() }, "p", "c");
        assert_eq!(meter.usage().unwrap(), Usage { unified: true, ..Usage::default() });
        assert!(meter.processes().unwrap().is_empty());
    }
}
