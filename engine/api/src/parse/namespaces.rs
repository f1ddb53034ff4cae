//! Whose namespaces a container is in: `--pid`, `--ipc`, `--uts`, `--userns`, `--cgroupns`, and what `--sysctl` changes
//! in them.

use std::collections::BTreeMap;

use engine::{ContainerConfig, IpcMode, NamespaceMode};

use super::host_config::HostConfig;
use crate::error::ApiError;

/// Parameters of System V IPC (runc, `libcontainer/configs/validate`).
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Other containers whose namespaces are joined, each by its id or name.
#[derive(Debug, Default)]
pub(crate) struct Joins {
    pub(crate) pid: Option<String>,
    pub(crate) ipc: Option<String>,
}

impl HostConfig {
    /// Puts a container into the namespaces that are asked for.
    pub(super) fn namespaces(&self, config: &mut ContainerConfig) -> Result<Joins, ApiError> {
        let mut joins = Joins::default();
        let other = |what: &str, mode: &str| match mode.strip_prefix("container:") {
            Some(name) if !name.is_empty() => Ok(Some(name.to_owned())),
            _ => Err(ApiError::Invalid(format!("invalid {what} mode: {mode}"))),
        };
        match self.pid_mode.as_str() {
            "" | "private" => {}
            "host" => config.pid = NamespaceMode::Host,
            mode => joins.pid = other("PID", mode)?,
        }
        match self.ipc_mode.as_str() {
            "" | "private" => {}
            "shareable" => config.ipc = IpcMode::Shareable,
            "none" => config.ipc = IpcMode::None,
            "host" => config.ipc = IpcMode::Host,
            mode => joins.ipc = other("IPC", mode)?,
        }
        for (mode, what, is_host) in [
            (&self.uts_mode, "UTS", Some(&mut config.host_uts)),
            (&self.cgroupns_mode, "cgroup namespace", Some(&mut config.host_cgroups)),
            // All containers are in the host's.
            (&self.userns_mode, "user namespace", None),
        ] {
            match (mode.as_str(), is_host) {
                ("", _) => {}
                ("host", Some(is_host)) => *is_host = true,
                ("private", Some(_)) if what == "cgroup namespace" => {}
                ("host", None) => {}
                (mode, _) => return Err(ApiError::Invalid(format!("invalid {what} mode: {mode}"))),
            }
        }
        config.sysctls = self.checked_sysctls()?;
        Ok(joins)
    }

    /// Only what is the container's own may be changed.
    fn checked_sysctls(&self) -> Result<BTreeMap<String, String>, ApiError> {
        let own_ipc = matches!(self.ipc_mode.as_str(), "" | "private" | "shareable" | "none");
        let own_network = self.network_mode != "host" && !self.network_mode.starts_with("container:");
        for name in self.sysctls.keys() {
            let dotted = name.replace('/', ".");
            let is_ipc = IPC_SYSCTLS.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.");
            let allowed = (is_ipc && own_ipc)
                || (dotted.starts_with("net.") && own_network)
                || (dotted == "kernel.domainname" && self.uts_mode != "host");
            if dotted.contains("..") || !allowed {
                let text = format!("invalid sysctl: sysctl {name:?} is not in a separate kernel namespace");
                return Err(ApiError::Invalid(text));
            }
        }
        Ok(self.sysctls.iter().map(|(name, value)| (name.replace('/', "."), value.clone())).collect())
    }
}
