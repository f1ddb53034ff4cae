//! What a container may use of its host: Docker's `HostConfig`.

use std::collections::BTreeMap;

use engine::DnsSettings;
use engine::runtime::spec::{Resources, Seccomp, Security};
use engine::runtime::{Capabilities, RestartPolicy};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// The least memory that Docker lets a container have, in bytes.
const MEMORY_MIN: i64 = 6 << 20;
/// A period of the CPU scheduler, in microseconds, where none is given.
const CPU_PERIOD: i64 = 100_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct HostConfig {
    pub(super) binds: Vec<String>,
    pub(super) volumes_from: Vec<String>,
    pub(super) mounts: Vec<super::mounts::Mount>,
    pub(super) tmpfs: BTreeMap<String, String>,
    pub(super) network_mode: String,
    pub(super) auto_remove: bool,
    pub(super) init: bool,
    pub(super) readonly_rootfs: bool,
    privileged: bool,
    cap_add: Vec<String>,
    cap_drop: Vec<String>,
    security_opt: Vec<String>,
    pub(super) extra_hosts: Vec<String>,
    pub(super) links: Vec<String>,
    pub(super) dns: Vec<String>,
    dns_options: Vec<String>,
    dns_search: Vec<String>,
    #[serde(rename = "UTSMode")]
    pub(super) uts_mode: String,
    shm_size: i64,
    memory: i64,
    memory_swap: i64,
    nano_cpus: i64,
    cpu_period: i64,
    cpu_quota: i64,
    cpu_shares: i64,
    cpuset_cpus: String,
    pids_limit: i64,
    oom_score_adj: i32,
    ulimits: Vec<Ulimit>,
    pub(super) port_bindings: BTreeMap<String, Vec<super::ports::PortBinding>>,
    pub(super) publish_all_ports: bool,
    restart_policy: Restart,
    log_config: Typed,
    ipc_mode: String,
    cgroupns_mode: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Restart {
    name: String,
    maximum_retry_count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Typed {
    #[serde(rename = "Type")]
    kind: String,
    config: BTreeMap<String, String>,
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

/// What this engine lacks, and how the client calls it.
const UNSUPPORTED: [(&str, &str); 27] = [
    ("VolumeDriver", "--volume-driver"),
    ("ContainerIDFile", "ContainerIDFile"),
    ("GroupAdd", "--group-add"),
    ("Cgroup", "Cgroup"),
    ("CgroupParent", "--cgroup-parent"),
    ("PidMode", "--pid"),
    ("UTSMode", "--uts"),
    ("UsernsMode", "--userns"),
    ("Sysctls", "--sysctl"),
    ("Runtime", "--runtime"),
    ("StorageOpt", "--storage-opt"),
    ("Isolation", "--isolation"),
    ("Devices", "--device"),
    ("DeviceCgroupRules", "--device-cgroup-rule"),
    ("DeviceRequests", "--gpus"),
    ("BlkioWeight", "--blkio-weight"),
    ("BlkioWeightDevice", "--blkio-weight-device"),
    ("BlkioDeviceReadBps", "--device-read-bps"),
    ("BlkioDeviceWriteBps", "--device-write-bps"),
    ("BlkioDeviceReadIOps", "--device-read-iops"),
    ("BlkioDeviceWriteIOps", "--device-write-iops"),
    ("CpuRealtimePeriod", "--cpu-rt-period"),
    ("CpuRealtimeRuntime", "--cpu-rt-runtime"),
    ("CpusetMems", "--cpuset-mems"),
    ("MemoryReservation", "--memory-reservation"),
    ("OomKillDisable", "--oom-kill-disable"),
    ("Annotations", "--annotation"),
];

/// Fails if one of these options is given a value that asks for something.
pub(super) fn refuse_unsupported(
    given: &Map<String, Value>,
    unsupported: &[(&str, &str)],
) -> Result<(), ApiError> {
    let asked = |field: &str| given.get(field).is_some_and(|value| !is_empty(value));
    match unsupported.iter().find(|(field, _)| asked(field)) {
        Some((_, option)) => Err(ApiError::Unsupported((*option).to_owned())),
        None => Ok(()),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}

impl HostConfig {
    pub(super) fn refuse_unsupported(&self) -> Result<(), ApiError> {
        refuse_unsupported(&self.rest, &UNSUPPORTED)?;
        let others = [
            (matches!(self.ipc_mode.as_str(), "" | "private" | "shareable"), "--ipc"),
            (matches!(self.cgroupns_mode.as_str(), "" | "private"), "--cgroupns"),
            (self.memory_swap >= 0, "--memory-swap -1"),
            (self.rest.get("MemorySwappiness").is_none_or(|v| v.as_i64() == Some(-1)), "--memory-swappiness"),
        ];
        match others.iter().find(|(fine, _)| !fine) {
            Some((_, option)) => Err(ApiError::Unsupported((*option).to_owned())),
            None => Ok(()),
        }
    }

    pub(super) fn dns(&self) -> Result<DnsSettings, ApiError> {
        let server = |text: &String| {
            let invalid =
                || ApiError::Invalid(format!("invalid DNS address: {text}: bad nameserver address"));
            text.parse().map_err(|_| invalid())
        };
        let servers = self.dns.iter().map(server).collect::<Result<_, _>>()?;
        Ok(DnsSettings { servers, search: self.dns_search.clone(), options: self.dns_options.clone() })
    }

    pub(super) fn security(&self) -> Result<Security, ApiError> {
        let mut security = Security::default();
        let named = |option: &str, names: &[String]| {
            names.iter().try_fold(Capabilities::NONE, |set, name| {
                let parsed: Result<Capabilities, _> = name.parse();
                let unknown = || format!("invalid {option}: unknown capability: {name:?}");
                parsed.map(|one| set.with(one)).map_err(|_| ApiError::Invalid(unknown()))
            })
        };
        let (add, drop) = (named("CapAdd", &self.cap_add)?, named("CapDrop", &self.cap_drop)?);
        // As Docker: `--cap-drop ALL --cap-add X` is X alone, and `--cap-add ALL --cap-drop X` all but X.
        let all = Capabilities::all();
        security.capabilities = if drop == all {
            add
        } else if add == all {
            all.without(drop)
        } else {
            security.capabilities.with(add).without(drop)
        };
        for option in &self.security_opt {
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (name, value) {
                ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
                ("no-new-privileges", "false") | ("seccomp", "builtin") | ("label" | "apparmor", _) => {}
                ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
                ("systempaths", "unconfined") => {
                    security.masked_paths.clear();
                    security.read_only_paths.clear();
                }
                ("seccomp", _) => {
                    return Err(ApiError::Unsupported("--security-opt seccomp=PROFILE".to_owned()));
                }
                _ => return Err(ApiError::Invalid(format!("invalid --security-opt 2: {option:?}"))),
            }
        }
        if self.privileged {
            security.capabilities = all;
            security.seccomp = Seccomp::Unconfined;
            security.masked_paths.clear();
            security.read_only_paths.clear();
            security.all_devices = true;
            security.writable_sys = true;
        }
        Ok(security)
    }

    pub(super) fn resources(&self) -> Result<Resources, ApiError> {
        if self.memory != 0 && self.memory < MEMORY_MIN {
            return Err(ApiError::Invalid("Minimum memory limit allowed is 6MB".to_owned()));
        }
        if self.memory_swap > 0 && self.memory_swap < self.memory {
            let text = "Minimum memoryswap limit should be larger than memory limit, see usage";
            return Err(ApiError::Invalid(text.to_owned()));
        }
        let period = if self.cpu_period > 0 { self.cpu_period } else { CPU_PERIOD };
        let of_quota = positive("CpuQuota", self.cpu_quota)?.map(|quota| {
            let nanos = i128::from(quota) * 1_000_000_000 / i128::from(period);
            u64::try_from(nanos).unwrap_or(u64::MAX)
        });
        let nano_cpus = positive("NanoCpus", self.nano_cpus)?;
        if nano_cpus.is_some() && of_quota.is_some() {
            let text = "Conflicting options: Nano CPUs and CPU Quota cannot both be set.";
            return Err(ApiError::Invalid(text.to_owned()));
        }
        let limit = |value| u64::try_from(value).ok(); // negative is unlimited
        let rlimit = |u: &Ulimit| (u.name.to_ascii_lowercase(), (limit(u.soft), limit(u.hard)));
        Ok(Resources {
            memory: positive("Memory", self.memory)?,
            memory_swap: positive("MemorySwap", self.memory_swap)?,
            nano_cpus: nano_cpus.or(of_quota),
            cpu_shares: positive("CpuShares", self.cpu_shares)?,
            cpuset_cpus: Some(self.cpuset_cpus.clone()).filter(|cpus| !cpus.is_empty()),
            pids: u64::try_from(self.pids_limit).ok().filter(|&pids| pids > 0), // -1 is unlimited
            rlimits: self.ulimits.iter().map(rlimit).collect(),
            oom_score_adj: Some(self.oom_score_adj).filter(|&adj| adj != 0),
        })
    }

    pub(super) fn restart(&self) -> Result<RestartPolicy, ApiError> {
        let Restart { name, maximum_retry_count: retries } = &self.restart_policy;
        let name = if name.is_empty() { "no" } else { name };
        let text = if *retries == 0 { name.to_owned() } else { format!("{name}:{retries}") };
        let policy: RestartPolicy = text.parse().map_err(engine::Error::from)?;
        if policy != RestartPolicy::No && self.auto_remove {
            return Err(ApiError::Invalid(
                "can't create 'AutoRemove' container with restart policy".to_owned(),
            ));
        }
        Ok(policy)
    }

    /// The log driver, which may be left to the daemon, and its options.
    pub(super) fn logging(&self) -> (Option<String>, BTreeMap<String, String>) {
        let Typed { kind, config } = &self.log_config;
        (Some(kind.clone()).filter(|kind| !kind.is_empty()), config.clone())
    }

    pub(super) fn shm_size(&self) -> Result<u64, ApiError> {
        Ok(positive("ShmSize", self.shm_size)?.unwrap_or(64 << 20))
    }

    pub(super) fn extra_hosts(&self) -> Result<Vec<(String, String)>, ApiError> {
        let pair = |text: &String| {
            let (name, address) = text.split_once([':', '=']).unwrap_or((text, ""));
            let address = address.trim_start_matches('[').trim_end_matches(']');
            match address.parse::<std::net::IpAddr>() {
                Ok(_) if !name.is_empty() => Ok((name.to_owned(), address.to_owned())),
                _ if address == engine::HOST_GATEWAY && !name.is_empty() => {
                    Ok((name.to_owned(), address.to_owned()))
                }
                _ => Err(ApiError::Invalid(format!("bad format for add-host: {text:?}"))),
            }
        };
        self.extra_hosts.iter().map(pair).collect()
    }
}

/// Zero stands for what was not given.
fn positive(name: &str, value: i64) -> Result<Option<u64>, ApiError> {
    let value = u64::try_from(value).map_err(|_| ApiError::Invalid(format!("invalid {name}: {value}")))?;
    Ok(Some(value).filter(|&value| value > 0))
}
