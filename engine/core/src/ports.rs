//! Published ports: Docker's notation, and who has which.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use engine_network::{PortMapping, Protocol, PublishedPort, Reservation, ReserveError};
use engine_types::{ContainerId, ErrorKind};
use serde::{Deserialize, Serialize};

use crate::container::ContainerConfig;
use crate::engine::{Engine, blocking};
use crate::error::{At, Error};
use crate::network::Network;

/// How often ports that dead containers turn out to have are tried anew.
const ATTEMPTS: u32 = 64;

/// A port that a container serves, whether or not it is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExposedPort {
    /// Its number.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// A text that describes no ports, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePortError {
    /// There is no port in it.
    #[error("no port specified: {0}<empty>")]
    NoPort(String),
    /// The container's port is none.
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    /// The host's port is none.
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// The host's address is none.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// Networks are IPv4.
    #[error(
        "invalid IP address: {0}: containers have no IPv6 addresses, publish the port on an IPv4 address"
    )]
    Ipv6(String),
    /// The two ranges differ in length.
    #[error("invalid ranges specified for container and host Ports: {0} and {1}")]
    Ranges(String, String),
    /// Not tcp, udp or sctp.
    #[error("invalid proto: {0}")]
    Protocol(String),
    /// `--expose` takes no host ports.
    #[error("invalid port format for --expose: {0}")]
    ExposeFormat(String),
    /// `--expose` with something that is no port.
    #[error("invalid range format for --expose: {0}")]
    ExposeRange(String),
}

impl ParsePortError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

/// One port, `80` or `80/udp`.
impl FromStr for ExposedPort {
    type Err = ParsePortError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (port, protocol) = split_protocol(s)?;
        let port = port.parse().map_err(|_| ParsePortError::ContainerPort(port.to_owned()))?;
        Ok(Self { port, protocol })
    }
}

/// Reads a port to publish (`-p`): `[[address:][host port or range]:]port or range[/protocol]`.
pub fn parse_published(text: &str) -> Result<Vec<PortMapping>, ParsePortError> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let (host, address) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let host_ip = host_address(address)?;
    if container.split('/').next().unwrap_or_default().is_empty() {
        return Err(ParsePortError::NoPort(text.to_owned()));
    }
    let (container, protocol) = split_protocol(container)?;
    let (first, last) = range(container)
        .filter(|&(first, _)| first != 0)
        .ok_or_else(|| ParsePortError::ContainerPort(container.to_owned()))?;
    let mapping = |container_port, host_ports| PortMapping { protocol, container_port, host_ip, host_ports };
    if host.is_empty() || host == "0" {
        return Ok((first..=last).map(|port| mapping(port, None)).collect());
    }
    let hosts = range(host).ok_or_else(|| ParsePortError::HostPort(host.to_owned()))?;
    if first == last {
        return Ok(vec![mapping(first, Some(hosts))]);
    }
    if last - first != hosts.1 - hosts.0 {
        return Err(ParsePortError::Ranges(container.to_owned(), host.to_owned()));
    }
    Ok((first..=last).zip(hosts.0..=hosts.1).map(|(port, host)| mapping(port, Some((host, host)))).collect())
}

/// Reads ports that a container serves (`--expose`): `port or range[/protocol]`.
pub fn parse_exposed(text: &str) -> Result<Vec<ExposedPort>, ParsePortError> {
    if text.contains(':') {
        return Err(ParsePortError::ExposeFormat(text.to_owned()));
    }
    let (ports, protocol) = split_protocol(text)?;
    let (first, last) = range(ports).ok_or_else(|| ParsePortError::ExposeRange(text.to_owned()))?;
    Ok((first..=last).map(|port| ExposedPort { port, protocol }).collect())
}

fn split_protocol(text: &str) -> Result<(&str, Protocol), ParsePortError> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.parse().map_err(|_| ParsePortError::Protocol(protocol.to_owned()))?;
    Ok((ports, protocol))
}

fn host_address(text: &str) -> Result<Ipv4Addr, ParsePortError> {
    if text.is_empty() {
        return Ok(Ipv4Addr::UNSPECIFIED);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match bare.parse() {
        Ok(IpAddr::V4(address)) => Ok(address),
        Ok(IpAddr::V6(_)) => Err(ParsePortError::Ipv6(bare.to_owned())),
        Err(_) => Err(ParsePortError::Address(bare.to_owned())),
    }
}

/// `80` or `80-90`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// All that a container serves: its image's ports, those it exposes and those it publishes.
pub(crate) fn all_exposed<'a>(
    config: &ContainerConfig,
    image: impl Iterator<Item = &'a String>,
) -> Result<BTreeSet<ExposedPort>, Error> {
    let mut all = config.exposed.clone();
    for text in image {
        all.extend(parse_exposed(text)?);
    }
    let published = |m: &PortMapping| ExposedPort { port: m.container_port, protocol: m.protocol };
    all.extend(config.ports.iter().map(published));
    Ok(all)
}

/// What a container on `network` publishes. One on an internal network has no way in, as Docker's.
fn wanted(config: &ContainerConfig, network: &Network) -> Vec<PortMapping> {
    if network.config.internal {
        return Vec::new();
    }
    let mut wanted = config.ports.clone();
    for mapping in wanted.iter_mut().filter(|mapping| mapping.host_ip.is_unspecified()) {
        mapping.host_ip = network.config.host_ip.unwrap_or(mapping.host_ip);
    }
    if config.publish_all {
        let is_mapped = |exposed: &ExposedPort| {
            config.ports.iter().any(|m| (m.container_port, m.protocol) == (exposed.port, exposed.protocol))
        };
        wanted.extend(config.exposed.iter().filter(|exposed| !is_mapped(exposed)).map(|exposed| {
            PortMapping {
                protocol: exposed.protocol,
                container_port: exposed.port,
                host_ip: network.config.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED),
                host_ports: None,
            }
        }));
    }
    wanted
}

impl Engine {
    /// Takes the host's ports that a container is to have, if any.
    pub(crate) async fn reserve_ports(
        &self,
        config: &ContainerConfig,
        network: &Network,
    ) -> Result<Option<Reservation>, Error> {
        let wanted = wanted(config, network);
        if wanted.is_empty() {
            return Ok(None);
        }
        let engine = self.clone();
        match blocking(move || engine.driver().reserve(&wanted)).await {
            Ok(reserved) => Ok(Some(reserved)),
            // The socket that is in the way may be that of a container here.
            Err(ReserveError::InUse { protocol, host_ip, port, holder }) => {
                match self.catalog().port_holder(protocol, host_ip, port).await? {
                    Some(container) if self.is_running(container)? => {
                        Err(self.port_allocated(host_ip, port, container).await)
                    }
                    _ => Err(ReserveError::InUse { protocol, host_ip, port, holder }.into()),
                }
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Leads reserved ports to a container whose supervisor lives.
    pub(crate) async fn publish_ports(
        &self,
        container: ContainerId,
        network: &Network,
        address: Ipv4Addr,
        ports: &[PublishedPort],
    ) -> Result<(), Error> {
        // What an earlier life of it has left.
        self.withdraw_ports(container).await?;
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            result = match self.catalog().insert_ports(container, address, ports).await? {
                Ok(()) => {
                    let (engine, ports) = (self.clone(), ports.to_owned());
                    let interface = engine.driver().bridge_name(&network.id);
                    return Ok(blocking(move || engine.driver().publish(&interface, address, &ports)).await?);
                }
                Err((holder, port)) if self.sweep_ports_of(holder).await? => Err(Error::PortAllocated {
                    host_ip: port.host_ip,
                    port: port.host_port,
                    holder: holder.short(),
                }),
                Err((holder, port)) => {
                    return Err(self.port_allocated(port.host_ip, port.host_port, holder).await);
                }
            };
        }
        result
    }

    /// Takes a container's ports away. The caller sees to it that it does not start meanwhile.
    pub(crate) async fn withdraw_ports(&self, container: ContainerId) -> Result<(), Error> {
        let ports = self.catalog().ports(Some(container)).await?;
        let Some(&(_, address, _)) = ports.first() else { return Ok(()) };
        let (engine, list) = (self.clone(), ports.iter().map(|&(_, _, port)| port).collect::<Vec<_>>());
        blocking(move || engine.driver().unpublish(address, &list)).await?;
        self.catalog().delete_ports(container).await
    }

    /// Takes away the ports of containers that have ended: whoever ended without a word left them.
    pub(crate) async fn sweep_ports(&self) -> Result<(), Error> {
        let containers: BTreeSet<ContainerId> =
            self.catalog().ports(None).await?.into_iter().map(|(container, ..)| container).collect();
        for container in containers {
            self.sweep_ports_of(container).await?;
        }
        Ok(())
    }

    /// Takes a container's ports away if it does not run; whether that is so.
    async fn sweep_ports_of(&self, container: ContainerId) -> Result<bool, Error> {
        let run_dir = self.run_dir(container);
        let claim = engine_runtime::claim(&run_dir).at(&run_dir)?;
        if claim.is_some() {
            self.withdraw_ports(container).await?;
        }
        Ok(claim.is_some())
    }

    async fn port_allocated(&self, host_ip: Ipv4Addr, port: u16, holder: ContainerId) -> Error {
        let name = self.catalog().container(&holder.to_string()).await.map(|row| row.name);
        Error::PortAllocated { host_ip, port, holder: name.unwrap_or_else(|_| holder.short()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let shown = match parse_published(text) {
            Ok(mappings) => mappings
                .iter()
                .map(|m| {
                    let host =
                        m.host_ports.map_or("random".to_owned(), |(first, last)| format!("{first}-{last}"));
                    format!("{}:{host}->{}/{}", m.host_ip, m.container_port, m.protocol)
                })
                .collect::<Vec<_>>()
                .join(" "),
            Err(e) => e.to_string(),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn ports_are_read_as_docker_reads_them() {
        check("80", "0.0.0.0:random->80/tcp");
        check("8080:80", "0.0.0.0:8080-8080->80/tcp");
        check("0:80/udp", "0.0.0.0:random->80/udp");
        check("127.0.0.1::80", "127.0.0.1:random->80/tcp");
        check("127.0.0.1:8080:80/SCTP", "127.0.0.1:8080-8080->80/sctp");
        check("8000-8001:80-81", "0.0.0.0:8000-8000->80/tcp 0.0.0.0:8001-8001->81/tcp");
        check("8000-8010:80", "0.0.0.0:8000-8010->80/tcp");
        check("80-81", "0.0.0.0:random->80/tcp 0.0.0.0:random->81/tcp");
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        check("", "no port specified: <empty>");
        check("8080:", "no port specified: 8080:<empty>");
        check("8080:x", "invalid containerPort: x");
        check("80:65536", "invalid containerPort: 65536");
        check("8080:0", "invalid containerPort: 0");
        check("x:80", "invalid hostPort: x");
        check("9-8:80", "invalid hostPort: 9-8");
        check("1.2.3:8080:80", "invalid IP address: 1.2.3");
        check("8080:80/icmp", "invalid proto: icmp");
        check(
            "8000-8001:80-82",
            "invalid ranges specified for container and host Ports: 80-82 and 8000-8001",
        );
        check(
            "[::1]:8080:80",
            "invalid IP address: ::1: containers have no IPv6 addresses, publish the port on an IPv4 address",
        );
        let exposed = |text| parse_exposed(text).unwrap_err().to_string();
        assert_eq!(exposed("80:80"), "invalid port format for --expose: 80:80");
        assert_eq!(exposed("x"), "invalid range format for --expose: x");
    }

    #[test]
    fn exposed_ports_are_ports_and_ranges() {
        let texts: Vec<String> =
            parse_exposed("80-82/udp").unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["80/udp", "81/udp", "82/udp"]);
    }
}
