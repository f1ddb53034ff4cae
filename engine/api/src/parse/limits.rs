//! What a container may use: `--memory`, `--cpus`, `--ulimit` and their like.

use std::path::PathBuf;

use engine::runtime::spec::{BlockIo, BlockLimit, Resources};
use serde::Deserialize;

use crate::error::ApiError;

/// The least memory that Docker lets a container have, in bytes.
const MEMORY_MIN: i64 = 6 << 20;
/// The bounds of a period of the CPU scheduler, in microseconds.
const CPU_PERIODS: std::ops::RangeInclusive<i64> = 1000..=1_000_000;
/// The least CPU time of a period, in microseconds.
const CPU_QUOTA_MIN: i64 = 1000;
const BILLION: i64 = 1_000_000_000;
/// What setrlimit(2) limits.
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Members of `HostConfig`. Zero stands for what is not given.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Limits {
    memory: i64,
    memory_swap: i64,
    memory_reservation: i64,
    memory_swappiness: Option<i64>,
    oom_kill_disable: bool,
    oom_score_adj: i32,
    nano_cpus: i64,
    cpu_period: i64,
    cpu_quota: i64,
    cpu_shares: i64,
    cpu_realtime_period: i64,
    cpu_realtime_runtime: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    pids_limit: i64,
    blkio_weight: i64,
    blkio_weight_device: Vec<Disk>,
    blkio_device_read_bps: Vec<Disk>,
    blkio_device_write_bps: Vec<Disk>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_reads: Vec<Disk>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_writes: Vec<Disk>,
    ulimits: Vec<Ulimit>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Disk {
    path: PathBuf,
    #[serde(default, alias = "Weight")]
    rate: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit {
    name: String,
    #[serde(default)]
    soft: i64,
    #[serde(default)]
    hard: i64,
}

impl Limits {
    pub(super) fn resources(&self) -> Result<Resources, ApiError> {
        self.check_memory()?;
        self.check_cpu()?;
        let limit = |value| u64::try_from(value).ok(); // negative is unlimited
        let rlimit = |u: &Ulimit| (u.name.to_ascii_lowercase(), (limit(u.soft), limit(u.hard)));
        self.ulimits.iter().try_for_each(check_ulimit)?;
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            let text =
                format!("Invalid value {}, range for oom score adj is [-1000, 1000]", self.oom_score_adj);
            return Err(ApiError::Invalid(text));
        }
        Ok(Resources {
            memory: positive("Memory", self.memory)?,
            memory_swap: match self.memory_swap {
                -1 => Some(u64::MAX),
                bytes => positive("MemorySwap", bytes)?,
            },
            memory_reservation: positive("MemoryReservation", self.memory_reservation)?,
            swappiness: self.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
            oom_kill_disable: self.oom_kill_disable,
            nano_cpus: positive("NanoCpus", self.nano_cpus)?,
            cpu_quota: u64::try_from(self.cpu_quota).ok().filter(|&quota| quota > 0), // -1 is unlimited
            cpu_period: positive("CpuPeriod", self.cpu_period)?,
            cpu_shares: positive("CpuShares", self.cpu_shares)?,
            cpuset_cpus: cpuset("cpus", &self.cpuset_cpus)?,
            cpuset_mems: cpuset("mems", &self.cpuset_mems)?,
            pids: u64::try_from(self.pids_limit).ok().filter(|&pids| pids > 0), // -1 is unlimited
            block_io: self.block_io()?,
            rlimits: self.ulimits.iter().map(rlimit).collect(),
            oom_score_adj: Some(self.oom_score_adj).filter(|&adj| adj != 0),
        })
    }

    fn check_memory(&self) -> Result<(), ApiError> {
        let (memory, swap, reservation) = (self.memory, self.memory_swap, self.memory_reservation);
        let wrong = [
            (memory != 0 && memory < MEMORY_MIN, "Minimum memory limit allowed is 6MB"),
            (
                memory > 0 && swap > 0 && swap < memory,
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                memory == 0 && swap > 0,
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (reservation > 0 && reservation < MEMORY_MIN, "Minimum memory reservation allowed is 6MB"),
            (
                memory > 0 && reservation > memory,
                "Minimum memory limit can not be less than memory reservation limit, see usage",
            ),
        ];
        refuse(&wrong)?;
        match self.memory_swappiness {
            None | Some(-1..=100) => Ok(()),
            Some(value) => {
                let text = format!("Invalid value: {value}, valid memory swappiness range is 0-100");
                Err(ApiError::Invalid(text))
            }
        }
    }

    fn check_cpu(&self) -> Result<(), ApiError> {
        let (nano, period, quota) = (self.nano_cpus, self.cpu_period, self.cpu_quota);
        let wrong = [
            (nano > 0 && period > 0, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
            (nano > 0 && quota > 0, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
            (
                period != 0 && !CPU_PERIODS.contains(&period),
                "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            ),
            (quota > 0 && quota < CPU_QUOTA_MIN, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
            (
                self.cpu_realtime_period != 0 || self.cpu_realtime_runtime != 0,
                "Your kernel does not support CPU real-time scheduler",
            ),
        ];
        refuse(&wrong)?;
        let there = std::thread::available_parallelism().map_or(i64::MAX, |n| n.get() as i64);
        if nano < 0 || nano > there.saturating_mul(BILLION) {
            return Err(ApiError::Invalid(format!(
                "range of CPUs is from 0.01 to {there}.00, as there are only {there} CPUs available"
            )));
        }
        Ok(())
    }

    fn block_io(&self) -> Result<BlockIo, ApiError> {
        let weights = self.blkio_weight_device.iter().map(|disk| disk.rate as i64);
        if weights.chain([self.blkio_weight]).any(|weight| weight != 0 && !(10..=1000).contains(&weight)) {
            return Err(ApiError::Invalid("Range of blkio weight is from 10 to 1000".to_owned()));
        }
        let limits = |disks: &[Disk]| {
            disks.iter().map(|disk| BlockLimit { path: disk.path.clone(), value: disk.rate }).collect()
        };
        Ok(BlockIo {
            weight: positive("BlkioWeight", self.blkio_weight)?,
            weights: limits(&self.blkio_weight_device),
            read_bytes: limits(&self.blkio_device_read_bps),
            write_bytes: limits(&self.blkio_device_write_bps),
            reads: limits(&self.blkio_device_reads),
            writes: limits(&self.blkio_device_writes),
        })
    }
}

fn refuse(wrong: &[(bool, &str)]) -> Result<(), ApiError> {
    match wrong.iter().find(|(is_so, _)| *is_so) {
        Some((_, text)) => Err(ApiError::Invalid((*text).to_owned())),
        None => Ok(()),
    }
}

fn check_ulimit(ulimit: &Ulimit) -> Result<(), ApiError> {
    let Ulimit { name, soft, hard } = ulimit;
    if !ULIMITS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(ApiError::Invalid(format!("invalid ulimit type: {name}")));
    }
    if *hard != -1 && (*soft > *hard || *soft == -1) {
        let text = format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}");
        return Err(ApiError::Invalid(text));
    }
    Ok(())
}

/// A list like `0-2,4`; none if it is empty.
fn cpuset(name: &str, text: &str) -> Result<Option<String>, ApiError> {
    let is_range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<u16>().ok().zip(last.parse::<u16>().ok()).is_some_and(|(first, last)| first <= last)
    };
    if !text.is_empty() && !text.split(',').all(is_range) {
        return Err(ApiError::Invalid(format!("Invalid value {text} for cpuset {name}")));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

/// Zero stands for what was not given.
pub(super) fn positive(name: &str, value: i64) -> Result<Option<u64>, ApiError> {
    let value = u64::try_from(value).map_err(|_| ApiError::Invalid(format!("invalid {name}: {value}")))?;
    Ok(Some(value).filter(|&value| value > 0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(limits: Value) -> Result<Resources, String> {
        let limits: Limits = serde_json::from_value(limits).unwrap();
        limits.resources().map_err(|e| e.message())
    }

    #[test]
    fn limits_are_read() {
        let read = read(json!({
            "Memory": 64 << 20, "MemorySwap": -1, "MemorySwappiness": -1, "CpuQuota": 50000, "PidsLimit": -1,
            "BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": 1000}],
            "BlkioWeightDevice": [{"Path": "/dev/vda", "Weight": 100}],
            "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": -1}],
        }))
        .unwrap();
        assert_eq!((read.memory_swap, read.swappiness, read.pids), (Some(u64::MAX), None, None));
        assert_eq!((read.cpu_quota, read.cpu_period, read.nano_cpus), (Some(50000), None, None));
        assert_eq!((read.block_io.read_bytes[0].value, read.block_io.weights[0].value), (1000, 100));
        assert_eq!(read.rlimits["nofile"], (Some(10), None));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_dockers_words() {
        let mib = 1 << 20;
        for (limits, says) in [
            (json!({"Memory": 1024}), "Minimum memory limit allowed is 6MB"),
            (
                json!({"Memory": 64 * mib, "MemorySwap": 32 * mib}),
                "Minimum memoryswap limit should be larger",
            ),
            (json!({"MemorySwap": 32 * mib}), "You should always set the Memory limit"),
            (json!({"MemoryReservation": 1}), "Minimum memory reservation allowed is 6MB"),
            (
                json!({"Memory": 8 * mib, "MemoryReservation": 9 * mib}),
                "can not be less than memory reservation",
            ),
            (json!({"MemorySwappiness": 101}), "valid memory swappiness range is 0-100"),
            (
                json!({"NanoCpus": BILLION / 2, "CpuQuota": 5000}),
                "Nano CPUs and CPU Quota cannot both be set",
            ),
            (json!({"CpuPeriod": 1}), "CPU cfs period can not be less than 1ms"),
            (json!({"CpuQuota": 1}), "CPU cfs quota can not be less than 1ms"),
            (json!({"NanoCpus": 4096 * BILLION}), "range of CPUs is from 0.01 to"),
            (json!({"CpuRealtimeRuntime": 1}), "does not support CPU real-time scheduler"),
            (json!({"CpusetCpus": "0-x"}), "Invalid value 0-x for cpuset cpus"),
            (json!({"BlkioWeight": 5}), "Range of blkio weight is from 10 to 1000"),
            (json!({"OomScoreAdj": 1001}), "range for oom score adj is [-1000, 1000]"),
            (json!({"Ulimits": [{"Name": "luck"}]}), "invalid ulimit type: luck"),
            (
                json!({"Ulimits": [{"Name": "nofile", "Soft": 2, "Hard": 1}]}),
                "less than or equal to hard limit: 2 > 1",
            ),
        ] {
            let refused = read(limits).unwrap_err();
            assert!(refused.contains(says), "{refused}");
        }
    }
}
