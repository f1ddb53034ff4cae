use std::collections::BTreeMap;
use std::path::Path;

use engine::runtime::spec::{Resources, Seccomp};
use engine::runtime::{Capabilities, State};
use engine::{Container, ContainerConfig, MountKind, Program};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{human, time};
use crate::act::{KILLED, Seen, network_mode};
use crate::parse::Version;

/// `containers/{id}/json`.
pub(crate) fn container(seen: &Seen, version: Version) -> Value {
    let Seen { container, process, image, .. } = seen;
    let (program, args) = process.args.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let config = &container.config;
    let file = |name: &str| container.log_path.with_file_name(name);
    let mut value = json!({
        "Id": container.id.to_string(),
        "Created": time(Some(container.created)),
        "Path": program,
        "Args": args,
        "State": state(container),
        "Image": config.image.to_string(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": container.log_path,
        "Name": format!("/{}", container.name),
        "RestartCount": 0,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": seen.execs.as_slice().first().map(|_| &seen.execs),
        "HostConfig": host_config(config),
        "GraphDriver": { "Name": "overlay2", "Data": null },
        "Mounts": mount_points(container, &seen.volumes),
        "Config": {
            "Hostname": config.hostname.clone().unwrap_or_else(|| container.id.short()),
            "Domainname": "",
            "User": process.user,
            "AttachStdin": config.stdin,
            "AttachStdout": true,
            "AttachStderr": true,
            "Tty": config.terminal,
            "OpenStdin": config.stdin,
            "StdinOnce": config.stdin,
            "Env": process.env.iter().filter(|e| !made_here(e)).collect::<Vec<_>>(),
            "Cmd": command(config, image.as_deref()),
            "Image": image_name(config),
            "Volumes": null,
            "WorkingDir": process.cwd,
            "Entrypoint": entrypoint(config, image.as_deref()),
            "OnBuild": null,
            "Labels": labels(seen),
        },
        "NetworkSettings": network_settings(seen, version),
    });
    if let Some(signal) = &config.stop_signal {
        value["Config"]["StopSignal"] = json!(signal);
    }
    if let Some(seconds) = config.stop_timeout {
        value["Config"]["StopTimeout"] = json!(seconds);
    }
    if let Some((writable, root)) = seen.size {
        value["SizeRw"] = json!(writable);
        value["SizeRootFs"] = json!(root);
    }
    value
}

/// An entry of `containers/json`.
pub(crate) fn container_summary(seen: &Seen, version: Version, now: Timestamp) -> Value {
    let container = &seen.container;
    let mut value = json!({
        "Id": container.id.to_string(),
        "Names": [format!("/{}", container.name)],
        "Image": image_name(&container.config),
        "ImageID": container.config.image.to_string(),
        "Command": seen.process.args.join(" "),
        "Created": container.created.as_second(),
        "Ports": [],
        "Labels": labels(seen),
        "State": status(container),
        "Status": status_text(container, now),
        "HostConfig": { "NetworkMode": network_mode(&container.config) },
        "NetworkSettings": { "Networks": networks(seen, version) },
        "Mounts": mount_points(container, &seen.volumes),
    });
    if let Some((writable, root)) = seen.size {
        value["SizeRw"] = json!(writable);
        value["SizeRootFs"] = json!(root);
    }
    value
}

/// What it was asked for by; of a container that was made otherwise, the image's id.
fn image_name(config: &ContainerConfig) -> String {
    config.image_name.clone().unwrap_or_else(|| config.image.to_string())
}

/// Docker does not count what the engine itself adds to the environment as configured.
fn made_here(entry: &str) -> bool {
    entry.starts_with("HOSTNAME=") || entry == "TERM=xterm"
}

fn labels(seen: &Seen) -> BTreeMap<String, String> {
    let mut labels = seen.image.as_ref().map(|image| image.config.config.labels.clone()).unwrap_or_default();
    labels.extend(seen.container.config.labels.clone());
    labels
}

fn command(config: &ContainerConfig, image: Option<&engine::image::Image>) -> Option<Vec<String>> {
    let Program::Command { entrypoint, command } = &config.program else { return None };
    let inherited = || image.filter(|_| entrypoint.is_none()).and_then(|i| i.config.config.cmd.clone());
    command.clone().or_else(inherited)
}

fn entrypoint(config: &ContainerConfig, image: Option<&engine::image::Image>) -> Option<Vec<String>> {
    let Program::Command { entrypoint, .. } = &config.program else { return None };
    entrypoint.clone().or_else(|| image.and_then(|i| i.config.config.entrypoint.clone()))
}

/// Docker's word for where a container is in its life.
fn status(container: &Container) -> &'static str {
    match (&container.state, container.running) {
        _ if container.is_paused() => "paused",
        (_, true) => "running",
        (None, false) => "created",
        (Some(_), false) => "exited",
    }
}

fn exit_code(state: &State) -> i32 {
    state.exit_code.unwrap_or(KILLED)
}

fn status_text(container: &Container, now: Timestamp) -> String {
    match (&container.state, container.running) {
        (Some(state), true) => {
            let paused = if state.paused { " (Paused)" } else { "" };
            format!("Up {}{paused}", human::since(state.started_at.unwrap_or(container.created), now))
        }
        (Some(state), false) => {
            let since = state.finished_at.or(state.started_at).unwrap_or(container.created);
            format!("Exited ({}) {} ago", exit_code(state), human::since(since, now))
        }
        (None, _) => "Created".to_owned(),
    }
}

fn state(container: &Container) -> Value {
    let state = container.state.as_ref();
    json!({
        "Status": status(container),
        "Running": container.running,
        "Paused": container.is_paused(),
        "Restarting": false,
        "OOMKilled": state.is_some_and(|s| s.oom_killed),
        "Dead": false,
        "Pid": state.and_then(|s| s.pid).filter(|_| container.running).unwrap_or(0),
        "ExitCode": if container.running { 0 } else { state.map_or(0, exit_code) },
        "Error": "",
        "StartedAt": time(state.and_then(|s| s.started_at)),
        "FinishedAt": time(state.and_then(|s| s.finished_at)),
    })
}

fn host_config(config: &ContainerConfig) -> Value {
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
        "LogConfig": { "Type": "json-file", "Config": {} },
        "NetworkMode": network_mode(config),
        "PortBindings": {},
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "AutoRemove": config.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "ConsoleSize": [0, 0],
        "CapAdd": some(named(security.capabilities.without(default))),
        "CapDrop": some(named(if security.capabilities == all { Capabilities::NONE } else {
            default.without(security.capabilities)
        })),
        "CgroupnsMode": "private",
        "Dns": [], "DnsOptions": [], "DnsSearch": [],
        "ExtraHosts": some(config.extra_hosts.iter().map(|(name, at)| format!("{name}:{at}")).collect()),
        "GroupAdd": null,
        "IpcMode": "private",
        "Cgroup": "", "Links": null,
        "PidMode": "",
        "Privileged": privileged,
        "PublishAllPorts": false,
        "ReadonlyRootfs": config.read_only,
        "SecurityOpt": some(options),
        "UTSMode": "", "UsernsMode": "",
        "ShmSize": config.shm_size,
        "Runtime": "lighter",
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
    super::merged([value, limits(&config.resources)])
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
        "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [], "BlkioDeviceWriteIOps": [],
        "CpuCount": 0, "CpuPercent": 0, "IOMaximumBandwidth": 0, "IOMaximumIOps": 0,
        "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0,
        "CpusetCpus": resources.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": "",
        "Devices": [], "DeviceCgroupRules": null, "DeviceRequests": null,
        "MemoryReservation": 0,
        "MemorySwap": resources.memory_swap.or(resources.memory.map(|m| m.saturating_mul(2))).unwrap_or(0),
        "MemorySwappiness": null,
        "OomKillDisable": false,
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

/// What is mounted, as `Mounts` of a container.
fn mount_points(container: &Container, volumes: &Path) -> Vec<Value> {
    let point = |mount: &engine::Mount| {
        let rw = !mount.read_only;
        let mode = if mount.read_only { "ro" } else { "" };
        let target = &mount.target;
        Some(match &mount.kind {
            MountKind::Bind(source) => json!({
                "Type": "bind", "Source": source, "Destination": target,
                "Mode": mode, "RW": rw, "Propagation": "rprivate",
            }),
            MountKind::Volume(name) => json!({
                "Type": "volume", "Name": name, "Source": volumes.join(name).join("_data"), "Destination": target,
                "Driver": "local", "Mode": mode, "RW": rw, "Propagation": "",
            }),
            MountKind::Tmpfs(_) | MountKind::Overlay(_) => return None,
        })
    };
    container.config.mounts.iter().filter_map(point).collect()
}

fn network_settings(seen: &Seen, version: Version) -> Value {
    let networks = networks(seen, version);
    // The default network's values stand here as well; they went with 1.52.
    let bridge = networks.get("bridge").cloned().unwrap_or(Value::Null);
    let of = |name: &str, empty: Value| bridge.get(name).cloned().unwrap_or(empty);
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": {},
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": of("EndpointID", json!("")),
        "Gateway": of("Gateway", json!("")),
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": of("IPAddress", json!("")),
        "IPPrefixLen": of("IPPrefixLen", json!(0)),
        "IPv6Gateway": "",
        "MacAddress": of("MacAddress", json!("")),
        "Networks": networks,
    })
}

fn networks(seen: &Seen, version: Version) -> Map<String, Value> {
    let mut endpoint = json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "MacAddress": "",
        "DriverOpts": null,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
    });
    let Some(attached) = &seen.network else {
        return Map::from_iter([(network_mode(&seen.container.config), endpoint)]);
    };
    endpoint["NetworkID"] = json!(attached.network.id.to_string());
    if !attached.aliases.is_empty() {
        endpoint["Aliases"] = json!(attached.aliases);
    }
    // As Docker, which keeps no address for a container that does not run.
    if let Some(address) = attached.address.filter(|_| seen.container.running) {
        endpoint["EndpointID"] = json!(seen.container.id.to_string());
        endpoint["Gateway"] = json!(attached.network.gateway.to_string());
        endpoint["IPAddress"] = json!(address.to_string());
        endpoint["IPPrefixLen"] = json!(attached.network.subnet.prefix_len());
    }
    if version >= Version(1, 44) {
        let own = [seen.container.name.clone(), seen.container.id.short()];
        let names: Vec<&String> = own.iter().chain(&attached.aliases).collect();
        endpoint["DNSNames"] = if attached.network.name == "bridge" { Value::Null } else { json!(names) };
    }
    Map::from_iter([(attached.network.name.clone(), endpoint)])
}
