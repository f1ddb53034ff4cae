//! The body of `containers/create` into a container's configuration.

use std::collections::BTreeMap;

use engine::image::Healthcheck;
use engine::{ContainerConfig, Program, signal_number};
use engine_types::ImageId;
use serde::Deserialize;
use serde_json::Value;

use super::endpoint::Endpoint;
use super::host_config::{HostConfig, refuse_unsupported};
use super::mounts::NewVolume;
use super::namespaces::Joins;
use super::networking::{Asked, networking};
use super::version::Version;
use super::{mounts, ports};
use crate::error::ApiError;

/// As Docker's `ContainerCreateBody`. What is not named here has no effect in Docker either, or is in
/// [`refuse_unsupported`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Body {
    hostname: String,
    domainname: String,
    mac_address: String,
    user: String,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Words>,
    pub(crate) image: String,
    volumes: BTreeMap<String, Value>,
    working_dir: String,
    entrypoint: Option<Words>,
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
    stop_timeout: Option<u32>,
    network_disabled: bool,
    exposed_ports: BTreeMap<String, Value>,
    healthcheck: Healthcheck,
    host_config: HostConfig,
    networking_config: NetworkingConfig,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
    /// What of the body is shown again as it came.
    #[serde(skip)]
    shown: Value,
}

/// Members of the body that are shown again, besides those of the host's part.
const SHOWN: [&str; 9] = [
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "StdinOnce",
    "Domainname",
    "Healthcheck",
    "MacAddress",
    "Shell",
    "Volumes",
];

impl Body {
    /// Reads a body.
    pub(crate) fn read(body: Value) -> Result<Self, ApiError> {
        let own = SHOWN.iter().filter_map(|name| Some(((*name).to_owned(), body.get(name)?.clone())));
        let own: serde_json::Map<String, Value> = own.collect();
        let host = body.get("HostConfig").cloned().unwrap_or_default();
        let shown = serde_json::json!({ "Config": own, "HostConfig": host });
        Ok(Self { shown, ..super::typed(body)? })
    }
}

/// A command is a list, or one word of old clients.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

impl Words {
    fn into_list(self) -> Vec<String> {
        match self {
            Self::One(word) => vec![word],
            Self::Many(words) => words,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkingConfig {
    endpoints_config: BTreeMap<String, Endpoint>,
}

/// Other containers, each by its id or name.
#[derive(Debug, Default)]
pub(crate) struct Others {
    /// Whose network is shared.
    pub(crate) network: Option<String>,
    /// Whose other namespaces are.
    pub(crate) joins: Joins,
    /// Containers that it is told of, each with what it is called there.
    pub(crate) links: Vec<(String, String)>,
}

/// A container that is to be made.
#[derive(Debug)]
pub(crate) struct Create {
    pub(crate) config: ContainerConfig,
    /// What of its image's health check is to be otherwise.
    pub(crate) healthcheck: Healthcheck,
    /// Its log driver, if it names one, and the options of that.
    pub(crate) logging: (Option<String>, BTreeMap<String, String>),
    /// What it names of other containers.
    pub(crate) others: Others,
    /// Where each of its unnamed volumes goes; the index is of `config.mounts`, whose name is still to be given.
    pub(crate) anonymous: Vec<usize>,
    /// How volumes are made that are not there, by the index of the mount.
    pub(crate) new_volumes: BTreeMap<usize, NewVolume>,
    /// Containers whose mounts it gets, and whether to be read only.
    pub(crate) volumes_from: Vec<(String, bool)>,
    /// Directories of the host that are made if absent, as for `-v`.
    pub(crate) make_sources: Vec<std::path::PathBuf>,
}

/// Options of the container itself that this engine lacks, and how the client calls them.
const UNSUPPORTED: [(&str, &str); 1] = [("Shell", "Shell")];

/// Turns a body into a configuration; `image` is what `body.image` stands for.
pub(crate) fn create(
    name: Option<&str>,
    image: ImageId,
    body: Body,
    version: Version,
) -> Result<Create, ApiError> {
    refuse_unsupported(&body.rest, &UNSUPPORTED)?;
    let host = body.host_config;
    host.refuse_unsupported()?;
    if let Some(signal) = body.stop_signal.iter().find(|s| !s.is_empty() && signal_number(s).is_none()) {
        return Err(ApiError::Invalid(format!("invalid stop signal: {signal}")));
    }
    let entrypoint = body.entrypoint.map(Words::into_list).filter(|words| !words.is_empty());
    // One empty word takes the image's away.
    let entrypoint = entrypoint.map(|words| if words == [""] { Vec::new() } else { words });
    let command = body.cmd.map(Words::into_list).filter(|words| !words.is_empty());
    let asked = Asked {
        hostname: !body.hostname.is_empty(),
        exposes: !body.exposed_ports.is_empty(),
        disabled: body.network_disabled,
        mac: &body.mac_address,
    };
    let networking = networking(&host, &asked, body.networking_config.endpoints_config, version)?;
    let mounts = mounts::parse(&host, body.volumes.keys())?;
    let volumes_from = mounts::volumes_from(&host.volumes_from)?;
    let mut config = ContainerConfig {
        name: name.map(str::to_owned),
        program: Program::Command { entrypoint, command },
        env: body.env,
        working_dir: some(body.working_dir),
        user: some(body.user),
        terminal: body.tty,
        stdin: body.open_stdin,
        init: host.init,
        hostname: some(body.hostname),
        mounts: mounts.mounts,
        domainname: some(body.domainname),
        network: networking.mode,
        endpoints: networking.endpoints,
        dns: host.dns()?,
        ports: ports::published(&host.port_bindings)?,
        exposed: ports::exposed(body.exposed_ports.keys())?,
        publish_all: host.publish_all_ports,
        restart: host.restart()?,
        extra_hosts: host.extra_hosts()?,
        security: host.privileges.security()?,
        devices: host.privileges.devices()?,
        groups: host.group_add.clone(),
        console_size: host.console_size(),
        stdin_stays: body.open_stdin && !body.stdin_once,
        resources: host.resources()?,
        read_only: host.readonly_rootfs,
        shm_size: host.shm_size()?,
        labels: body.labels,
        image_name: Some(body.image),
        auto_remove: host.auto_remove,
        stop_signal: body.stop_signal.filter(|signal| !signal.is_empty()),
        stop_timeout: body.stop_timeout,
        request: Some(body.shown),
        ..ContainerConfig::new(image)
    };
    let healthcheck = body.healthcheck;
    let logging = host.logging();
    let joins = host.namespaces(&mut config)?;
    let others = Others { network: networking.shared, joins, links: networking.links };
    Ok(Create {
        config,
        healthcheck,
        logging,
        others,
        anonymous: mounts.anonymous,
        new_volumes: mounts.new_volumes,
        volumes_from,
        make_sources: mounts.make_sources,
    })
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use engine::{MountKind, NetworkMode};
    use engine_types::Digest;
    use serde_json::json;

    use super::*;

    fn image() -> ImageId {
        ImageId(format!("sha256:{}", "0".repeat(64)).parse::<Digest>().unwrap())
    }

    fn parse(body: Value) -> Result<Create, ApiError> {
        create(Some("web"), image(), Body::read(body)?, Version::NEWEST)
    }

    #[test]
    fn options_reach_the_configuration() {
        let made = parse(json!({
            "Image": "busybox", "Cmd": ["echo", "hi"], "Entrypoint": null, "Tty": true, "Env": ["A=1"],
            "Labels": {"a": "b"}, "Volumes": {"/data": {}}, "StopSignal": "SIGINT",
            "HostConfig": {
                "Binds": ["cache:/cache:ro", "/srv:/srv"], "NetworkMode": "shop", "AutoRemove": true,
                "Memory": 67108864, "NanoCpus": 1500000000, "PidsLimit": 20, "CapDrop": ["ALL"], "CapAdd": ["CHOWN"],
                "Tmpfs": {"/run": "size=1m"}, "ExtraHosts": ["db:10.0.0.1"],
                "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
            },
        }))
        .unwrap();
        let config = made.config;
        assert_eq!((config.terminal, config.auto_remove, config.env), (true, true, vec!["A=1".to_owned()]));
        assert_eq!(config.network, NetworkMode::Network { network: "shop".to_owned(), aliases: vec![] });
        let kinds: Vec<&MountKind> = config.mounts.iter().map(|mount| &mount.kind).collect();
        assert_eq!(kinds[..2], [&MountKind::Volume("cache".to_owned()), &MountKind::Bind("/srv".into())]);
        assert_eq!(kinds[2], &MountKind::Tmpfs(Some(1 << 20)));
        assert!(config.mounts[0].read_only && !config.mounts[1].read_only);
        assert_eq!(made.anonymous, [3]);
        assert_eq!(made.make_sources, [std::path::PathBuf::from("/srv")]);
        assert_eq!(config.security.capabilities, "CHOWN".parse().unwrap());
        assert_eq!((config.resources.memory, config.resources.pids), (Some(64 << 20), Some(20)));
        assert_eq!(config.resources.rlimits["nofile"], (Some(10), Some(20)));
        assert_eq!(config.extra_hosts, [("db".to_owned(), "10.0.0.1".to_owned())]);
    }

    #[test]
    fn what_is_lacking_is_named() {
        let message = |host: Value| parse(json!({"Image": "x", "HostConfig": host})).unwrap_err().message();
        let restart = |policy: Value| message(json!({ "RestartPolicy": policy }));
        assert!(restart(json!({"Name": "sometimes"})).contains("unknown policy 'sometimes'"));
        assert!(
            restart(json!({"Name": "always", "MaximumRetryCount": 2}))
                .contains("only be used with 'on-failure'")
        );
        assert_eq!(
            message(json!({"RestartPolicy": {"Name": "always"}, "AutoRemove": true})),
            "can't create 'AutoRemove' container with restart policy"
        );
        assert!(message(json!({"Memory": 1024})).contains("Minimum memory limit allowed is 6MB"));
        assert!(message(json!({"CapAdd": ["FLY"]})).contains("FLY"));
        assert!(message(json!({"Binds": ["/a"]})).contains("/a"));
        let harmless =
            json!({"RestartPolicy": {"Name": "no"}, "Links": null, "Dns": [], "MemorySwappiness": -1});
        assert!(parse(json!({"Image": "x", "HostConfig": harmless})).is_ok());
    }
}
