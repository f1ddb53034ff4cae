//! From a container's configuration and its image to the runtime's specification.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use engine_image::Image;
use engine_runtime::dns::ResolvConf;
use engine_runtime::spec::{
    LogConfig, Mount as MountSpec, MountSource, Namespace, Namespaces, Process, Propagation, Rootfs,
    Security, Spec,
};

use engine_types::ContainerId;

use crate::catalog::ContainerRow;
use crate::container::{
    Container, ContainerConfig, IpcMode, Linked, NamespaceMode, NetworkMode, Place, Program,
};
use crate::engine::Engine;
use crate::error::{At, Error};
use crate::etc::{Etc, dns_config};
use crate::log_driver::Subject;

/// What programs find without an image's own `PATH`; Docker's.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where DNS servers listen.
const DNS_PORT: u16 = 53;

impl Engine {
    /// Resolves everything and writes the container's own /etc files.
    pub(crate) fn spec(
        &self,
        row: &ContainerRow,
        config: &ContainerConfig,
        places: &[Place],
        links: &[Linked],
    ) -> Result<Spec, Error> {
        let image = self.images().get(config.image)?;
        let state_dir = self.state_dir(row.id);
        let hostname = self.hostname(config, row.id);
        let resolv_conf = self.resolv_conf_of(config)?;
        let dns = dns_config(self, config, places, &resolv_conf);
        let addresses = places.iter().map(|place| place.address).collect();
        let own_resolver = dns.is_some();
        let mut mounts = match config.network {
            NetworkMode::Container(other) => self.etc_files_of(other),
            _ => {
                let gateway = places.iter().find(|place| place.leads_out).map(|place| place.network.gateway);
                let etc = Etc {
                    gateway,
                    hostname: &hostname,
                    addresses,
                    links,
                    own_resolver,
                    resolv_conf: &resolv_conf,
                };
                self.etc_files(&state_dir, config, &etc)?
            }
        };
        for mount in &config.mounts {
            mounts.push(self.mount(&state_dir, mount)?);
        }
        let namespaces = namespaces(config);
        let mut process = process(config, &image, &hostname)?;
        let told = links.iter().flat_map(|link| link.variables(&row.name));
        // What is asked for counts more than what is told.
        process.env = merge_env(told.chain(process.env));
        let run_dir = self.run_dir(row.id);
        fs::create_dir_all(&run_dir).at(&run_dir)?;
        Ok(Spec {
            id: row.id,
            rootfs: Rootfs {
                layers: self.images().layer_dirs(&image),
                upper: state_dir.join("upper"),
                work: state_dir.join("work"),
                read_only: config.read_only,
                volatile: config.volatile,
            },
            process,
            init: config.init || config.program == Program::Idle,
            hostname,
            domainname: config.domainname.clone().unwrap_or_default(),
            mounts,
            sysctls: sysctls(config, namespaces.network),
            namespaces,
            user_namespace: None,
            security: Security { devices: crate::devices::of(config)?, ..config.security.clone() },
            resources: config.resources.clone(),
            shm_size: if config.ipc == IpcMode::None { 0 } else { config.shm_size },
            log: self.log_config(row, config, &image)?,
            dns,
            tether: config.tether,
            cgroup_parent: self.cgroup_parent(),
            restart: config.restart,
            health: config.health.clone(),
            cleanup: None,
            state_dir,
            run_dir,
        })
    }

    fn log_config(
        &self,
        row: &ContainerRow,
        config: &ContainerConfig,
        image: &Image,
    ) -> Result<Option<LogConfig>, Error> {
        let mut labels = image.config.config.labels.clone();
        labels.extend(config.labels.clone());
        let env = [image.config.config.env.as_slice(), &config.env].concat();
        let id = config.image.to_string();
        let subject = Subject {
            id: row.id,
            name: &row.name,
            image: config.image,
            image_name: config.image_name.as_deref().unwrap_or(&id),
            labels: &labels,
            env: &env,
        };
        Ok(config.logging.to_config(self.log_path(row.id), subject)?)
    }

    /// What a further process of a container starts from: its environment, directory and user, without a program.
    pub fn process_defaults(&self, container: &Container) -> Result<Process, Error> {
        let image = self.images().get(container.config.image)?;
        let hostname = self.hostname(&container.config, container.id);
        let idle = ContainerConfig { program: Program::Idle, ..container.config.clone() };
        process(&idle, &image, &hostname)
    }

    /// The first process of a container, as its image and its configuration have it.
    pub fn process_of(
        &self,
        config: &ContainerConfig,
        image: &Image,
        id: ContainerId,
    ) -> Result<Process, Error> {
        let hostname = self.hostname(config, id);
        process(config, image, &hostname)
    }

    /// What a container is called inside: as the host or the container whose network it has, where nobody says otherwise.
    fn hostname(&self, config: &ContainerConfig, id: ContainerId) -> String {
        let hosts = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        match (&config.hostname, &config.network) {
            (Some(name), _) => name.clone(),
            (None, _) if config.host_uts => hosts(),
            (None, NetworkMode::Host) => hosts(),
            (None, NetworkMode::Container(other)) => {
                let file = fs::read_to_string(self.state_dir(*other).join("hostname"));
                file.map_or_else(|_| other.short(), |name| name.trim().to_owned())
            }
            (None, _) => id.short(),
        }
    }
}

pub(crate) fn bind(source: PathBuf, target: &Path, read_only: bool) -> MountSpec {
    let source = MountSource::Bind { source, recursive: true, propagation: Propagation::Private };
    MountSpec { target: target.to_owned(), source, read_only }
}

fn process(config: &ContainerConfig, image: &Image, hostname: &str) -> Result<Process, Error> {
    let defaults = &image.config.config;
    let args = match &config.program {
        Program::Idle => Vec::new(),
        Program::Command { entrypoint, command } => {
            let mut args = entrypoint.clone().or_else(|| defaults.entrypoint.clone()).unwrap_or_default();
            let inherited = if entrypoint.is_some() { None } else { defaults.cmd.clone() };
            args.extend(command.clone().or(inherited).unwrap_or_default());
            if args.is_empty() {
                return Err(Error::NoCommand);
            }
            args
        }
    };
    Ok(Process {
        args,
        env: environment(config, &defaults.env, hostname),
        cwd: config.working_dir.clone().unwrap_or_else(|| defaults.working_dir.clone()),
        user: config.user.clone().unwrap_or_else(|| defaults.user.clone()),
        groups: config.groups.clone(),
        terminal: config.terminal,
        stdin: config.stdin,
        stdin_stays: config.stdin_stays,
    })
}

/// Docker's order: a default `PATH`, `HOSTNAME`, `TERM` with a terminal, the image's, the container's; the last of a
/// name counts.
fn environment(config: &ContainerConfig, image: &[String], hostname: &str) -> Vec<String> {
    let term = config.terminal.then(|| "TERM=xterm".to_owned());
    let base = [DEFAULT_PATH.to_owned(), format!("HOSTNAME={hostname}")].into_iter().chain(term);
    merge_env(base.chain(image.iter().cloned()).chain(config.env.iter().cloned()))
}

/// Keeps the last value of each name, in the place of the first. A name alone takes the variable away.
pub(crate) fn merge_env(entries: impl Iterator<Item = String>) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, Option<String>> = BTreeMap::new();
    for entry in entries {
        let (name, value) = match entry.split_once('=') {
            Some((name, _)) => (name.to_owned(), Some(entry.clone())),
            None => (entry.clone(), None),
        };
        if values.insert(name.clone(), value).is_none() {
            order.push(name);
        }
    }
    order.iter().filter_map(|name| values.get(name).cloned().flatten()).collect()
}

/// Where the host's resolvers listen.
pub(crate) fn upstream(resolv_conf: &ResolvConf) -> Vec<SocketAddr> {
    resolv_conf.nameservers.iter().map(|&ip| SocketAddr::new(ip, DNS_PORT)).collect()
}

/// An environment with Docker's default `PATH` unless it has its own.
pub(crate) fn with_default_path(env: &[String]) -> Vec<String> {
    merge_env(std::iter::once(DEFAULT_PATH.to_owned()).chain(env.iter().cloned()))
}

fn namespaces(config: &ContainerConfig) -> Namespaces {
    Namespaces {
        network: match config.network {
            NetworkMode::Host => Namespace::Host,
            NetworkMode::Container(_) => Namespace::Joined,
            NetworkMode::None | NetworkMode::Network { .. } => Namespace::Private,
        },
        pid: match config.pid {
            NamespaceMode::Private => Namespace::Private,
            NamespaceMode::Host => Namespace::Host,
            NamespaceMode::Container(_) => Namespace::Joined,
        },
        ipc: match config.ipc {
            IpcMode::Host => Namespace::Host,
            IpcMode::Container(_) => Namespace::Joined,
            IpcMode::Private | IpcMode::Shareable | IpcMode::None => Namespace::Private,
        },
        cgroup: if config.host_cgroups { Namespace::Host } else { Namespace::Private },
        uts: if config.host_uts { Namespace::Host } else { Namespace::Private },
    }
}

/// Docker's: any user may bind any port and send pings where the network is the container's own; and what is asked for.
fn sysctls(config: &ContainerConfig, network: Namespace) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if network == Namespace::Private {
        let own =
            [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];
        all.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    all.extend(config.sysctls.clone());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_name_counts() {
        let merged = merge_env(["A=1", "B=2", "A=3", "B", "C=4"].map(String::from).into_iter());
        assert_eq!(merged, ["A=3", "C=4"]);
    }
}
