//! From a container's configuration and its image to the runtime's specification.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use engine_image::Image;
use engine_runtime::dns::{ResolvConf, container_resolv_conf, parse_resolv_conf};
use engine_runtime::spec::{
    DnsConfig, LogConfig, Mount as MountSpec, MountSource, Namespace, Namespaces, Process, Propagation,
    Rootfs, Spec,
};

use engine_types::ContainerId;

use crate::catalog::ContainerRow;
use crate::container::{Container, ContainerConfig, Mount, MountKind, NetworkMode, Program};
use crate::engine::Engine;
use crate::error::{At, Error};

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
        endpoint: Option<(Ipv4Addr, Option<PathBuf>)>,
    ) -> Result<Spec, Error> {
        let image = self.images().get(config.image)?;
        let state_dir = self.state_dir(row.id);
        let hostname = config.hostname.clone().unwrap_or_else(|| row.id.short());
        let (address, names) = endpoint.map_or((None, None), |(address, names)| (Some(address), names));
        let resolv_conf = self.resolv_conf()?;
        let mut mounts =
            self.etc_files(&state_dir, config, &hostname, address, &resolv_conf, address.is_some())?;
        for mount in &config.mounts {
            mounts.push(self.mount(&state_dir, mount)?);
        }
        let network = if config.network == NetworkMode::Host { Namespace::Host } else { Namespace::Private };
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
            process: process(config, &image, &hostname)?,
            init: config.init || config.program == Program::Idle,
            hostname,
            domainname: String::new(),
            mounts,
            namespaces: Namespaces { network, ..Namespaces::default() },
            user_namespace: None,
            security: config.security.clone(),
            resources: config.resources.clone(),
            sysctls: sysctls(network),
            shm_size: config.shm_size,
            log: config.log.then(|| LogConfig { path: self.log_path(row.id), max_size: None, max_files: 1 }),
            dns: address
                .map(|_| DnsConfig { names: names.into_iter().collect(), upstream: upstream(&resolv_conf) }),
            tether: config.tether,
            cgroup_parent: self.cgroup_parent(),
            restart: config.restart,
            health: config.health.clone(),
            cleanup: None,
            state_dir,
            run_dir,
        })
    }

    /// What a further process of a container starts from: its environment, directory and user, without a program.
    pub fn process_defaults(&self, container: &Container) -> Result<Process, Error> {
        let image = self.images().get(container.config.image)?;
        let hostname = container.config.hostname.clone().unwrap_or_else(|| container.id.short());
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
        let hostname = config.hostname.clone().unwrap_or_else(|| id.short());
        process(config, image, &hostname)
    }

    /// How the host resolves names; without a configuration, not at all.
    pub(crate) fn resolv_conf(&self) -> Result<ResolvConf, Error> {
        let path = self.paths().resolv_conf();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(self.settings().dns.over(parse_resolv_conf(&text))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Ok(self.settings().dns.over(ResolvConf::default()))
            }
            Err(e) => Err(e).at(path),
        }
    }

    /// Writes hostname, hosts and resolv.conf to the container's directory, to be mounted over the image's.
    pub(crate) fn etc_files(
        &self,
        state_dir: &Path,
        config: &ContainerConfig,
        hostname: &str,
        address: Option<Ipv4Addr>,
        resolv_conf: &ResolvConf,
        own_resolver: bool,
    ) -> Result<Vec<MountSpec>, Error> {
        let host_file = |name: &str| fs::read_to_string(self.paths().etc.join(name)).unwrap_or_default();
        let on_host = config.network == NetworkMode::Host;
        let hosts = if on_host { host_file("hosts") } else { hosts(config, hostname, address) };
        let resolv = if own_resolver { container_resolv_conf(resolv_conf) } else { host_file("resolv.conf") };
        let mut mounts = Vec::new();
        for (name, text) in [("hostname", format!("{hostname}\n")), ("hosts", hosts), ("resolv.conf", resolv)]
        {
            let path = state_dir.join(name);
            fs::write(&path, text).at(&path)?;
            mounts.push(bind(path, &Path::new("/etc").join(name), false));
        }
        Ok(mounts)
    }

    fn mount(&self, state_dir: &Path, mount: &Mount) -> Result<MountSpec, Error> {
        Ok(match &mount.kind {
            MountKind::Bind(source) => bind(source.clone(), &mount.target, mount.read_only),
            MountKind::Volume(name) => {
                bind(self.volume_dir(name).join("_data"), &mount.target, mount.read_only)
            }
            MountKind::Tmpfs(size) => MountSpec {
                target: mount.target.clone(),
                source: MountSource::Tmpfs { size: *size, mode: 0o1777, exec: true },
                read_only: mount.read_only,
            },
            MountKind::Overlay(lower) => {
                // One directory a target; the target names it, made flat.
                let name = mount.target.to_string_lossy().replace('/', "%");
                let (upper, work) = (
                    state_dir.join("overlays").join(&name).join("upper"),
                    state_dir.join("overlays").join(&name).join("work"),
                );
                for dir in [&upper, &work] {
                    fs::create_dir_all(dir).at(dir)?;
                }
                let source = MountSource::Overlay { lower: vec![lower.clone()], upper, work };
                MountSpec { target: mount.target.clone(), source, read_only: mount.read_only }
            }
        })
    }
}

fn bind(source: PathBuf, target: &Path, read_only: bool) -> MountSpec {
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
        groups: Vec::new(),
        terminal: config.terminal,
        stdin: config.stdin,
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

/// The same lines as Docker's.
fn hosts(config: &ContainerConfig, hostname: &str, address: Option<Ipv4Addr>) -> String {
    let mut out = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                   ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned();
    for (name, address) in &config.extra_hosts {
        out.push_str(&format!("{address}\t{name}\n"));
    }
    if let Some(address) = address {
        out.push_str(&format!("{address}\t{hostname}\n"));
    }
    out
}

/// Docker's: any user may bind any port and send pings, since the network is the container's own.
fn sysctls(network: Namespace) -> BTreeMap<String, String> {
    if network == Namespace::Host {
        return BTreeMap::new();
    }
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
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
