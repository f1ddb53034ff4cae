//! `HostConfig`.

use std::collections::BTreeMap;

use engine::runtime::spec::{Resources, Seccomp};
use engine::runtime::{Capabilities, RestartPolicy};
use engine::{ContainerConfig, IpcMode, MountKind, NamespaceMode};
use serde_json::{Value, json};

use crate::act::network_mode;

/// Options that Docker shows where they were given only.
const ONLY_IF_GIVEN: [&str; 7] =
    ["Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs", "VolumeDriver"];
/// Options that are shown as they are now, rather than as they were asked for.
const RENDERED: [&str; 22] = [
    "AutoRemove",
    "BlkioWeight",
    "CapAdd",
    "CapDrop",
    "CpuPeriod",
    "CpuQuota",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "IpcMode",
    "LogConfig",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "NanoCpus",
    "NetworkMode",
    "OomKillDisable",
    "PidMode",
    "PidsLimit",
    "RestartPolicy",
    "ShmSize",
];

pub(super) fn host_config(config: &ContainerConfig) -> Value {
    let mode = |read_only: bool| if read_only { ":ro" } else { "" };
    let binds: Vec<String> = config
        .mounts
        .iter()
        .filter_map(|mount| {
            let source = match &mount.kind {
                MountKind::Bind(path) => path.display().to_string(),
                MountKind::Volume(name) => name.clone(),
                MountKind::Tmpfs(_) | MountKind::Overlay(_) => return None,
            };
            Some(format!("{source}:{}{}", mount.target.display(), mode(mount.read_only)))
        })
        .collect();
    let security = &config.security;
    let all = Capabilities::all();
    let (default, privileged) = (Capabilities::default_set(), security.all_devices);
    let mut options = Vec::new();
    if security.seccomp == Seccomp::Unconfined && !privileged {
        options.push("seccomp=unconfined");
    }
    if security.no_new_privileges {
        options.push("no-new-privileges");
    }
    let named = |set: Capabilities| if privileged { Vec::new() } else { set.names() };
    let mut value = json!({
        "Binds": Some(binds).filter(|binds| !binds.is_empty()),
        "ContainerIDFile": "",
        "LogConfig": { "Type": config.logging.name(), "Config": config.logging.options() },
        "NetworkMode": network_mode(config),
        "PortBindings": {},
        "RestartPolicy": restart_policy(config.restart),
        "AutoRemove": config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "ConsoleSize": [0, 0],
        "CapAdd": some(named(security.capabilities.without(default))),
        "CapDrop": some(named(if security.capabilities == all { Capabilities::NONE } else {
            default.without(security.capabilities)
        })),
        "CgroupnsMode": if config.host_cgroups { "host" } else { "private" },
        "Dns": [], "DnsOptions": [], "DnsSearch": [],
        "ExtraHosts": some(config.extra_hosts.iter().map(|(name, at)| format!("{name}:{at}")).collect()),
        "GroupAdd": null,
        "IpcMode": match config.ipc {
            IpcMode::Private => "private".to_owned(),
            IpcMode::Shareable => "shareable".to_owned(),
            IpcMode::None => "none".to_owned(),
            IpcMode::Host => "host".to_owned(),
            IpcMode::Container(other) => format!("container:{other}"),
        },
        "Cgroup": "", "Links": null,
        "PidMode": match config.pid {
            NamespaceMode::Private => String::new(),
            NamespaceMode::Host => "host".to_owned(),
            NamespaceMode::Container(other) => format!("container:{other}"),
        },
        "Privileged": privileged,
        "PublishAllPorts": config.publish_all,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": some(options),
        "UTSMode": "", "UsernsMode": "",
        "ShmSize": config.shm_size,
        "Runtime": "runc",
        "Isolation": "",
        "MaskedPaths": security.masked_paths,
        "ReadonlyPaths": security.read_only_paths,
    });
    if config.init {
        value["Init"] = json!(true);
    }
    if let Some(tmpfs) = tmpfs(config) {
        value["Tmpfs"] = json!(tmpfs);
    }
    let mut value = super::merged([value, limits(&config.resources)]);
    show_again(&mut value, config);
    value
}

/// What was asked for stands as it came, where it has not changed its form or its value since.
fn show_again(value: &mut Value, config: &ContainerConfig) {
    let Some(Value::Object(asked)) = config.request.as_ref().and_then(|request| request.get("HostConfig"))
    else {
        return;
    };
    for (name, given) in asked.iter().filter(|(_, given)| !is_empty(given)) {
        let is_known = value.get(name).is_some() || ONLY_IF_GIVEN.contains(&name.as_str());
        if is_known && !RENDERED.contains(&name.as_str()) {
            value[name] = given.clone();
        }
    }
}

/// Whether a value asks for nothing.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

fn restart_policy(policy: RestartPolicy) -> Value {
    let (name, count) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure(most) => ("on-failure", most.unwrap_or(0)),
    };
    json!({ "Name": name, "MaximumRetryCount": count })
}

fn limits(resources: &Resources) -> Value {
    let value = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(-1));
    let ulimits = resources.rlimits.iter();
    let ulimits = ulimits
        .map(|(name, (soft, hard))| json!({ "Name": name, "Soft": value(*soft), "Hard": value(*hard) }));
    json!({
        "CpuShares": resources.cpu_shares.unwrap_or(0),
        "Memory": resources.memory.unwrap_or(0),
        "NanoCpus": resources.nano_cpus.unwrap_or(0),
        "CgroupParent": "",
        "BlkioWeight": resources.block_io.weight.unwrap_or(0), "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [],
        "CpuCount": 0, "CpuPercent": 0, "IOMaximumBandwidth": 0, "IOMaximumIOps": 0,
        "CpuPeriod": resources.cpu_period.unwrap_or(0), "CpuQuota": resources.cpu_quota.unwrap_or(0), "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0,
        "CpusetCpus": resources.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": resources.cpuset_mems.clone().unwrap_or_default(),
        "Devices": [], "DeviceCgroupRules": null, "DeviceRequests": null,
        "MemoryReservation": resources.memory_reservation.unwrap_or(0),
        "MemorySwap": match resources.memory_swap {
            Some(u64::MAX) => json!(-1),
            Some(bytes) => json!(bytes),
            None => json!(resources.memory.map_or(0, |memory| memory.saturating_mul(2))),
        },
        "MemorySwappiness": resources.swappiness,
        "OomKillDisable": resources.oom_kill_disable,
        "OomScoreAdj": resources.oom_score_adj.unwrap_or(0),
        "PidsLimit": resources.pids,
        "Ulimits": some(ulimits.collect()),
    })
}

/// Go writes an empty list as `null` in these places.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}

fn tmpfs(config: &ContainerConfig) -> Option<BTreeMap<String, String>> {
    let mounts = config.mounts.iter().filter_map(|mount| {
        let MountKind::Tmpfs(size) = mount.kind else { return None };
        let options = size.map(|size| format!("size={size}")).unwrap_or_default();
        Some((mount.target.display().to_string(), options))
    });
    Some(mounts.collect::<BTreeMap<_, _>>()).filter(|all| !all.is_empty())
}
