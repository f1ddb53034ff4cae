use anyhow::{bail, ensure};
use serde_json::{Map, Value, json};

use super::{Members, csv};

/// The options of a container's networks.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct NetworkOptions {
    /// Connect a container to a network
    #[arg(long, visible_alias = "net", value_name = "network", value_parser = parse)]
    network: Vec<Attachment>,
    /// Add network-scoped alias for the container
    #[arg(long, alias = "net-alias", value_name = "list")]
    network_alias: Vec<String>,
    /// Add link to another container
    #[arg(long, value_name = "list", value_parser = link)]
    link: Vec<String>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ip")]
    ip: Option<std::net::Ipv4Addr>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "ip")]
    ip6: Option<std::net::Ipv6Addr>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "list")]
    link_local_ip: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string")]
    mac_address: Option<String>,
}

/// A network that a container is to be on, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attachment {
    name: String,
    aliases: Vec<String>,
    ipv4: Option<String>,
    ipv6: Option<String>,
    link_local: Vec<String>,
    links: Vec<String>,
    mac: Option<String>,
    driver: Map<String, Value>,
    priority: i64,
}

/// Reads a network's name, or `name=…,alias=…,ip=…`.
fn parse(text: &str) -> Result<Attachment, String> {
    if !text.contains('=') || text.starts_with('=') {
        return Ok(Attachment { name: text.to_owned(), ..Attachment::default() });
    }
    let mut network = Attachment::default();
    for field in csv::fields(text)? {
        let lower = field.to_lowercase();
        let Some((key, value)) = lower.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            return Err(format!("invalid field {lower}"));
        };
        let value = value.trim().to_owned();
        match key.trim() {
            "name" => network.name = value,
            "alias" => network.aliases.push(value),
            "ip" => network.ipv4 = Some(value),
            "ip6" => network.ipv6 = Some(value),
            "mac-address" => network.mac = Some(value),
            "link-local-ip" => network.link_local.push(value),
            "driver-opt" => {
                let Some((name, value)) = value.split_once('=') else {
                    return Err("invalid key value pair format in driver options".to_owned());
                };
                network.driver.insert(name.trim().to_owned(), value.trim().into());
            }
            "gw-priority" => {
                let number = value.parse();
                network.priority =
                    number.map_err(|_| format!("invalid gw-priority ({value}): invalid syntax"))?;
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if network.name.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(network)
}

/// Checks `container[:alias]`.
fn link(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [""] => Err("empty string specified for links".to_owned()),
        [_] | [_, _] => Ok(text.to_owned()),
        _ => Err(format!("bad format for links: {text}")),
    }
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.trim().split([':', '-']).collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok())
}

/// Whether it is a network that someone has made.
fn is_user_defined(name: &str) -> bool {
    !matches!(name, "default" | "bridge" | "host" | "none") && !name.starts_with("container:")
}

impl NetworkOptions {
    /// `NetworkMode`.
    pub(super) fn mode(&self) -> &str {
        self.network.first().map_or("default", |network| &network.name)
    }

    /// The legacy links of the default bridge; elsewhere they belong to the endpoint.
    pub(super) fn links(&self) -> &[String] {
        &self.link
    }

    /// `EndpointsConfig`.
    pub(super) fn endpoints(&self) -> anyhow::Result<Value> {
        if let Some(mac) = self.mac_address.as_deref().filter(|mac| !is_mac(mac)) {
            bail!("{mac} is not a valid mac address");
        }
        let mut networks = self.network.clone();
        if networks.is_empty() {
            networks.push(Attachment { name: "default".to_owned(), ..Attachment::default() });
        }
        self.apply(&mut networks[0])?;
        let (mut endpoints, alone) = (Map::new(), networks.len() == 1);
        let mixed = networks.iter().any(|n| is_user_defined(&n.name))
            && !networks.iter().all(|n| is_user_defined(&n.name));
        for network in networks {
            let endpoint = endpoint(&network)?;
            let name = network.name;
            ensure!(!endpoints.contains_key(&name), "network {name:?} is specified multiple times");
            if !(alone && endpoint.as_object().is_none_or(Map::is_empty)) {
                endpoints.insert(name, endpoint);
            }
        }
        ensure!(
            !mixed,
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        );
        Ok(endpoints.into())
    }

    /// The options without a network's name are of the first one.
    fn apply(&self, network: &mut Attachment) -> anyhow::Result<()> {
        let conflicts = [
            (
                !network.aliases.is_empty() && !self.network_alias.is_empty(),
                "--network-alias and per-network alias",
            ),
            (network.ipv4.is_some() && self.ip.is_some(), "--ip and per-network IPv4 address"),
            (network.ipv6.is_some() && self.ip6.is_some(), "--ip6 and per-network IPv6 address"),
            (
                network.mac.is_some() && self.mac_address.is_some(),
                "--mac-address and per-network MAC address",
            ),
            (
                !network.link_local.is_empty() && !self.link_local_ip.is_empty(),
                "--link-local-ip and per-network link-local IP addresses",
            ),
        ];
        if let Some((_, both)) = conflicts.iter().find(|(conflict, _)| *conflict) {
            bail!("conflicting options: cannot specify both {both}");
        }
        network.aliases.extend(self.network_alias.iter().cloned());
        network.ipv4 = network.ipv4.take().or_else(|| self.ip.map(|ip| ip.to_string()));
        network.ipv6 = network.ipv6.take().or_else(|| self.ip6.map(|ip| ip.to_string()));
        network.mac = network.mac.take().or_else(|| self.mac_address.clone());
        network.link_local.extend(self.link_local_ip.iter().cloned());
        if is_user_defined(&network.name) {
            network.links.clone_from(&self.link);
        }
        Ok(())
    }
}

fn endpoint(network: &Attachment) -> anyhow::Result<Value> {
    ensure!(!network.name.trim().is_empty(), "no name set for network");
    if !is_user_defined(&network.name) {
        ensure!(
            network.aliases.is_empty(),
            "network-scoped aliases are only supported for user-defined networks"
        );
    }
    if let Some(mac) = network.mac.as_deref().filter(|mac| !is_mac(mac)) {
        bail!("{mac} is not a valid mac address");
    }
    let mut ipam = Members::default();
    ipam.put("IPv4Address", network.ipv4.clone())
        .put("IPv6Address", network.ipv6.clone())
        .put("LinkLocalIPs", json!(network.link_local));
    let mut endpoint = Members::default();
    endpoint
        .put("IPAMConfig", ipam.into_value())
        .put("Links", json!(network.links))
        .put("Aliases", json!(network.aliases))
        .put("DriverOpts", network.driver.clone())
        .put("GwPriority", network.priority)
        .put("MacAddress", network.mac.clone());
    Ok(endpoint.into_value())
}
