//! What a container may use of its host: Docker's `HostConfig`.

use std::collections::BTreeMap;

use engine::DnsSettings;
use engine::runtime::RestartPolicy;
use engine::runtime::spec::Resources;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::limits::{Limits, positive};
use super::privileges::Privileges;
use crate::error::ApiError;

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
    pub(super) extra_hosts: Vec<String>,
    pub(super) links: Vec<String>,
    pub(super) dns: Vec<String>,
    dns_options: Vec<String>,
    dns_search: Vec<String>,
    #[serde(rename = "UTSMode")]
    pub(super) uts_mode: String,
    shm_size: i64,
    pub(super) port_bindings: BTreeMap<String, Vec<super::ports::PortBinding>>,
    pub(super) publish_all_ports: bool,
    restart_policy: Restart,
    log_config: Typed,
    pub(super) group_add: Vec<String>,
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) pid_mode: String,
    pub(super) ipc_mode: String,
    pub(super) cgroupns_mode: String,
    pub(super) userns_mode: String,
    runtime: String,
    isolation: String,
    storage_opt: BTreeMap<String, String>,
    console_size: Option<(u16, u16)>,
    #[serde(flatten)]
    limits: Limits,
    #[serde(flatten)]
    pub(super) privileges: Privileges,
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

/// What this engine lacks, and how the client calls it.
const UNSUPPORTED: [(&str, &str); 3] =
    [("VolumeDriver", "--volume-driver"), ("Cgroup", "Cgroup"), ("CgroupParent", "--cgroup-parent")];

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
        self.check_names()
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

    pub(super) fn resources(&self) -> Result<Resources, ApiError> {
        self.limits.resources()
    }

    /// Rows and columns of its terminal from the start on.
    pub(super) fn console_size(&self) -> Option<(u16, u16)> {
        self.console_size.filter(|&(rows, columns)| rows != 0 && columns != 0)
    }

    fn check_names(&self) -> Result<(), ApiError> {
        if !matches!(self.runtime.as_str(), "" | "runc" | "io.containerd.runc.v2") {
            return Err(ApiError::Invalid(format!("unknown or invalid runtime name: {}", self.runtime)));
        }
        if !matches!(self.isolation.as_str(), "" | "default") {
            let text = format!("invalid isolation ({}): only \"default\" is supported", self.isolation);
            return Err(ApiError::Invalid(text));
        }
        if !self.storage_opt.is_empty() {
            let text = "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
            return Err(ApiError::Invalid(text.to_owned()));
        }
        Ok(())
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
