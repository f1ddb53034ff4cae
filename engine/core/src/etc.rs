//! A container's own /etc/hostname, /etc/hosts and /etc/resolv.conf, in its directory, mounted over its image's.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use engine_runtime::dns::{ResolvConf, container_resolv_conf, parse_resolv_conf};
use engine_runtime::spec::{DnsConfig, Mount};
use engine_types::ContainerId;

use crate::catalog::ContainerRow;
use crate::container::{ContainerConfig, HOST_GATEWAY, Linked, NetworkMode, Place};
use crate::engine::Engine;
use crate::error::{At, Error};
use crate::settings::DnsSettings;
use crate::spec::{bind, upstream};

/// The files' names.
const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// What the files say.
pub(crate) struct Etc<'a> {
    pub(crate) hostname: &'a str,
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// The host's address as the container reaches it, if it does.
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) links: &'a [Linked],
    /// Whether names are resolved at 127.0.0.11.
    pub(crate) own_resolver: bool,
    /// How the host resolves names, with what the container wants otherwise.
    pub(crate) resolv_conf: &'a ResolvConf,
}

impl Engine {
    /// Writes the files of a container.
    pub(crate) fn etc_files(
        &self,
        state_dir: &Path,
        config: &ContainerConfig,
        etc: &Etc<'_>,
    ) -> Result<Vec<Mount>, Error> {
        let host_file = |name: &str| fs::read_to_string(self.paths().etc.join(name)).unwrap_or_default();
        let hosts = match &config.network {
            NetworkMode::Host => host_file("hosts") + &extra_hosts(config, Some(Ipv4Addr::LOCALHOST)),
            _ => hosts(config, etc),
        };
        let resolv = if etc.own_resolver {
            container_resolv_conf(etc.resolv_conf)
        } else if config.dns == DnsSettings::default()
            && self.settings().dns == DnsSettings::default()
            && etc.addresses.is_empty()
        {
            host_file("resolv.conf")
        } else {
            plain_resolv_conf(etc.resolv_conf)
        };
        for (name, text) in FILES.into_iter().zip([format!("{}\n", etc.hostname), hosts, resolv]) {
            let path = state_dir.join(name);
            fs::write(&path, text).at(&path)?;
        }
        Ok(etc_mounts(state_dir))
    }

    /// The same files of another container, whose network is shared.
    pub(crate) fn etc_files_of(&self, other: ContainerId) -> Vec<Mount> {
        etc_mounts(&self.state_dir(other))
    }

    /// Changes the files of a running container to what they are to say now; what its resolver is to know, if it has
    /// one. The container has the files mounted, so they are not replaced.
    pub(crate) fn rewrite_etc_files(
        &self,
        row: &ContainerRow,
        config: &ContainerConfig,
        places: &[Place],
    ) -> Result<Option<DnsConfig>, Error> {
        let state_dir = self.state_dir(row.id);
        let hostname = config.hostname.clone().unwrap_or_else(|| row.id.short());
        let path = state_dir.join("hosts");
        let before = fs::read_to_string(&path).at(&path)?;
        let is_own = |line: &str| {
            line.split_once('\t').is_some_and(|(_, names)| names == host_names(config, &hostname))
        };
        let mut text: String =
            before.lines().filter(|line| !is_own(line)).map(|line| format!("{line}\n")).collect();
        text.extend(places.iter().map(|place| own_line(place.address, config, &hostname)));
        fs::write(&path, text).at(&path)?;
        let resolv_conf = self.resolv_conf_of(config)?;
        let dns = dns_config(self, config, places, &resolv_conf);
        if dns.is_some() {
            let path = state_dir.join("resolv.conf");
            fs::write(&path, container_resolv_conf(&resolv_conf)).at(&path)?;
        }
        Ok(dns)
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

    /// The same, as a container wants it.
    pub(crate) fn resolv_conf_of(&self, config: &ContainerConfig) -> Result<ResolvConf, Error> {
        let mut conf = config.dns.over(self.resolv_conf()?);
        // A lone dot is for no domain at all.
        conf.search.retain(|domain| domain != ".");
        Ok(conf)
    }
}

/// What a container's resolver answers; `None` without one. On the default network alone there is none, as Docker has
/// it: names are not resolved there. Where the host's resolvers are the host's own, though, nobody else reaches them.
pub(crate) fn dns_config(
    engine: &Engine,
    config: &ContainerConfig,
    places: &[Place],
    resolv_conf: &ResolvConf,
) -> Option<DnsConfig> {
    let others: Vec<&Place> = places.iter().filter(|place| !place.network.is_default()).collect();
    let is_hosts_own = |server: &IpAddr| server.is_loopback();
    let reachable = resolv_conf.nameservers.iter().any(|server| !is_hosts_own(server));
    if places.is_empty() || (others.is_empty() && (reachable || !config.dns.servers.is_empty())) {
        return None;
    }
    let names = others.iter().map(|place| engine.names_file(place.network.id)).collect();
    let aliases = others.iter().flat_map(|place| place.endpoint.links.clone());
    let aliases = aliases.map(|(alias, name)| (alias.to_ascii_lowercase(), name.to_ascii_lowercase()));
    Some(DnsConfig { names, aliases: aliases.collect(), upstream: upstream(resolv_conf) })
}

fn etc_mounts(state_dir: &Path) -> Vec<Mount> {
    FILES.map(|name| bind(state_dir.join(name), &Path::new("/etc").join(name), false)).to_vec()
}

fn plain_resolv_conf(conf: &ResolvConf) -> String {
    let servers = conf.nameservers.iter().filter(|server| !server.is_loopback());
    let mut text: String = servers.map(|server| format!("nameserver {server}\n")).collect();
    if !conf.search.is_empty() {
        text.push_str(&format!("search {}\n", conf.search.join(" ")));
    }
    if !conf.options.is_empty() {
        text.push_str(&format!("options {}\n", conf.options.join(" ")));
    }
    text
}

/// The same lines as Docker's.
fn hosts(config: &ContainerConfig, etc: &Etc<'_>) -> String {
    let mut out = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                   ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
        .to_owned();
    out.push_str(&extra_hosts(config, etc.gateway));
    out.extend(etc.links.iter().map(Linked::hosts_line));
    out.extend(etc.addresses.iter().map(|&address| own_line(address, config, etc.hostname)));
    out
}

fn extra_hosts(config: &ContainerConfig, gateway: Option<Ipv4Addr>) -> String {
    let line = |(name, address): &(String, String)| match address.as_str() {
        HOST_GATEWAY => gateway.map(|address| format!("{address}\t{name}\n")),
        address => Some(format!("{address}\t{name}\n")),
    };
    config.extra_hosts.iter().filter_map(line).collect()
}

fn own_line(address: Ipv4Addr, config: &ContainerConfig, hostname: &str) -> String {
    format!("{address}\t{}\n", host_names(config, hostname))
}

/// The name with its domain comes first, as hosts(5) has it.
fn host_names(config: &ContainerConfig, hostname: &str) -> String {
    match &config.domainname {
        Some(domain) => format!("{hostname}.{domain} {hostname}"),
        None => hostname.to_owned(),
    }
}
