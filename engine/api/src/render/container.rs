use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use engine::image::Image;
use engine::runtime::spec::Propagation;
use engine::runtime::{Health, HealthStatus, State, Status};
use engine::{Container, ContainerConfig, MountKind, Program, Protocol};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::endpoints::{network_settings, networks};
use super::host_config::{host_config, is_empty};
use super::{human, time};
use crate::act::{KILLED, Seen, network_mode};
use crate::parse::Version;

/// `containers/{id}/json`.
///
/// `layers` are the directories of its image, topmost first.
pub(crate) fn container(seen: &Seen, layers: &[PathBuf], version: Version) -> Value {
    let Seen { container, process, .. } = seen;
    let (program, args) = process.args.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    let config = &container.config;
    let file = |name: &str| container.log_path.with_file_name(name);
    let value = json!({
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
        "RestartCount": container.state.as_ref().map_or(0, |state| state.restart_count),
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": seen.execs.as_slice().first().map(|_| &seen.execs),
        "HostConfig": host_config(config),
        "GraphDriver": { "Name": "overlay2", "Data": overlay(container, layers) },
        "Mounts": mount_points(container, &seen.volumes),
        "Config": configuration(seen),
        "NetworkSettings": network_settings(seen, version),
    });
    with_size(value, seen)
}

/// Where its root file system comes together.
fn overlay(container: &Container, layers: &[PathBuf]) -> Value {
    let file = |name: &str| container.log_path.with_file_name(name);
    let layers: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
    json!({
        "ID": container.id.to_string(), "LowerDir": layers.join(":"), "MergedDir": file("rootfs"),
        "UpperDir": file("upper"), "WorkDir": file("work"),
    })
}

/// `Config` of a container: what its image and its maker say.
fn configuration(seen: &Seen) -> Value {
    let Seen { container, process, image, .. } = seen;
    let config = &container.config;
    let mut value = json!({
        "Hostname": config.hostname.clone().unwrap_or_else(|| container.id.short()),
        "Domainname": "",
        "User": process.user,
        "AttachStdin": config.stdin,
        "AttachStdout": true,
        "AttachStderr": true,
        "Tty": config.terminal,
        "OpenStdin": config.stdin,
        "StdinOnce": config.stdin,
        "Env": environment(config, image.as_deref()),
        "Cmd": command(config, image.as_deref()),
        "Image": image_name(config),
        "Volumes": null,
        "WorkingDir": process.cwd,
        "Entrypoint": entrypoint(config, image.as_deref()),
        "OnBuild": null,
        "Labels": labels(seen),
    });
    if !config.exposed.is_empty() {
        let exposed = config.exposed.iter().map(|port| (port.to_string(), json!({})));
        value["ExposedPorts"] = Value::Object(exposed.collect());
    }
    if let Some(signal) = &config.stop_signal {
        value["StopSignal"] = json!(signal);
    }
    if let Some(seconds) = config.stop_timeout {
        value["StopTimeout"] = json!(seconds);
    }
    if let Some(Value::Object(asked)) = config.request.as_ref().and_then(|request| request.get("Config")) {
        for name in ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"] {
            value[name] = json!(asked.get(name) == Some(&Value::Bool(true)));
        }
        for name in ["Domainname", "Healthcheck", "MacAddress", "Shell", "Volumes"] {
            if let Some(given) = asked.get(name).filter(|given| !is_empty(given)) {
                value[name] = given.clone();
            }
        }
    }
    if let Some(check) = healthcheck(&value["Healthcheck"], image.as_deref()) {
        value["Healthcheck"] = check;
    }
    value
}

/// What a container's maker leaves open of its health check is its image's.
fn healthcheck(asked: &Value, image: Option<&Image>) -> Option<Value> {
    let inherited = image.and_then(|image| image.config.config.healthcheck.as_ref());
    let mut check = serde_json::to_value(inherited?).ok()?;
    for (name, given) in asked.as_object().into_iter().flatten().filter(|(_, given)| !is_empty(given)) {
        check[name] = given.clone();
    }
    Some(check)
}

fn with_size(mut value: Value, seen: &Seen) -> Value {
    if let Some((writable, root)) = seen.size {
        value["SizeRw"] = json!(writable);
        value["SizeRootFs"] = json!(root);
    }
    value
}

/// An entry of `containers/json`.
pub(crate) fn container_summary(seen: &Seen, version: Version, now: Timestamp) -> Value {
    let container = &seen.container;
    let value = json!({
        "Id": container.id.to_string(),
        "Names": [format!("/{}", container.name)],
        "Image": image_name(&container.config),
        "ImageID": container.config.image.to_string(),
        "Command": seen.process.args.join(" "),
        "Created": container.created.as_second(),
        "Ports": ports(container),
        "Labels": labels(seen),
        "State": status(container),
        "Status": status_text(container, now),
        "HostConfig": { "NetworkMode": network_mode(&container.config) },
        "NetworkSettings": { "Networks": networks(seen, version) },
        "Mounts": mount_points(container, &seen.volumes),
    });
    with_size(value, seen)
}

/// The ports of a container that runs, as `containers/json` has them.
fn ports(container: &Container) -> Vec<Value> {
    if !container.running {
        return Vec::new();
    }
    let published = container.ports.iter().map(|port| {
        json!({
            "IP": port.host_ip.to_string(), "PrivatePort": port.container_port, "PublicPort": port.host_port,
            "Type": port.protocol.to_string(),
        })
    });
    let is_published = |port: u16, protocol: Protocol| {
        container.ports.iter().any(|p| (p.container_port, p.protocol) == (port, protocol))
    };
    let others = container.config.exposed.iter().filter(|port| !is_published(port.port, port.protocol));
    published
        .chain(others.map(|port| json!({ "PrivatePort": port.port, "Type": port.protocol.to_string() })))
        .collect()
}

/// What it was asked for by; of a container that was made otherwise, the image's id.
fn image_name(config: &ContainerConfig) -> String {
    config.image_name.clone().unwrap_or_else(|| config.image.to_string())
}

/// Its own, a name without a value included, and what its image has besides; not what the engine adds.
fn environment(config: &ContainerConfig, image: Option<&engine::image::Image>) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let own: BTreeSet<String> = config.env.iter().map(|entry| name(entry)).collect();
    let inherited = image.map(|image| image.config.config.env.as_slice()).unwrap_or_default();
    config.env.iter().chain(inherited.iter().filter(|entry| !own.contains(&name(entry)))).cloned().collect()
}

/// Its image's labels and its own.
pub(crate) fn labels(seen: &Seen) -> BTreeMap<String, String> {
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
pub(crate) fn status(container: &Container) -> &'static str {
    match (&container.state, container.running) {
        _ if container.is_paused() => "paused",
        (Some(state), true) if state.status == Status::Restarting => "restarting",
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
        (Some(state), true) if state.status == Status::Restarting => {
            let since = state.finished_at.unwrap_or(container.created);
            format!("Restarting ({}) {} ago", exit_code(state), human::since(since, now))
        }
        (Some(state), true) => {
            let health = match state.health.as_ref().map(|health| health.status) {
                _ if state.paused => " (Paused)",
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", human::since(state.started_at.unwrap_or(container.created), now))
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
    let restarting = status(container) == "restarting";
    let mut value = json!({
        "Status": status(container),
        "Running": container.running,
        "Paused": container.is_paused(),
        "Restarting": restarting,
        "OOMKilled": state.is_some_and(|s| s.oom_killed),
        "Dead": false,
        "Pid": state.and_then(|s| s.pid).filter(|_| container.running).unwrap_or(0),
        "ExitCode": if container.running && !restarting { 0 } else { state.map_or(0, exit_code) },
        "Error": state.and_then(|s| s.error.as_deref()).unwrap_or_default(),
        "StartedAt": time(state.and_then(|s| s.started_at)),
        "FinishedAt": time(state.and_then(|s| s.finished_at)),
    });
    if let Some(health) = state.and_then(|s| s.health.as_ref()) {
        value["Health"] = self::health(health, container.running);
    }
    value
}

fn health(health: &Health, running: bool) -> Value {
    let log = health.log.iter().map(|probe| {
        json!({
            "Start": time(Some(probe.start)), "End": time(Some(probe.end)),
            "ExitCode": probe.exit_code, "Output": probe.output,
        })
    });
    // Nobody probes what has ended, so that it works is not known.
    let status = if running { health.status } else { HealthStatus::Unhealthy };
    json!({ "Status": status, "FailingStreak": health.failing_streak, "Log": log.collect::<Vec<_>>() })
}

fn propagation(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "rprivate",
        Propagation::Slave => "rslave",
        Propagation::Shared => "rshared",
    }
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
                "Mode": mode, "RW": rw, "Propagation": propagation(mount.options.propagation),
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
