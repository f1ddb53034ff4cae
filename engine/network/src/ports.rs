//! Published ports: a port of the host that leads to a container's.
//!
//! Packets are led by nftables alone (`firewall.rs`); no program copies them. So that no other program takes such a
//! port, and none is taken from another program, a socket is bound to it for as long as the container lives, as Docker
//! does. It never hears a connection: the rules lead all of them past it.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;

use engine_types::ErrorKind;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
    ipproto, sockopt,
};
use serde::{Deserialize, Serialize};

use crate::bridge::BridgeError;
use crate::port_holder::{self, Holder};
use crate::subnet::host_addresses;
use crate::{FirewallError, IfName, NetlinkError, NetworkDriver, conntrack, firewall};

/// Descriptors that travel in one message; the kernel takes 253 (`SCM_MAX_FD`).
const BATCH: usize = 250;

/// A transport protocol that ports belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A string that names no protocol with ports; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid proto: {0}")]
pub struct ParseProtocolError(pub String);

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Protocol {
    type Err = ParseProtocolError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(ParseProtocolError(s.to_owned())),
        }
    }
}

/// A port that is to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Of both ports.
    pub protocol: Protocol,
    /// The container's port.
    pub container_port: u16,
    /// The host's address; unspecified is all of them.
    pub host_ip: Ipv4Addr,
    /// The first free port of this range, both ends included; of the kernel's ephemeral ports if absent.
    pub host_ports: Option<(u16, u16)>,
}

/// A port that is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedPort {
    /// Of both ports.
    pub protocol: Protocol,
    /// The host's address; unspecified is all of them.
    pub host_ip: Ipv4Addr,
    /// The host's port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
}

/// Why a port of the host could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Somebody has it.
    #[error(
        "failed to bind host port {host_ip}:{port}/{protocol}: address already in use{}",
        holder.as_ref().map_or(" by another program or another engine's container".to_owned(), |h| format!(" by {h}"))
    )]
    InUse {
        /// The protocol.
        protocol: Protocol,
        /// The host's address.
        host_ip: Ipv4Addr,
        /// The port.
        port: u16,
        /// The process that has it, where that can be found out.
        holder: Option<Holder>,
    },
    /// No port of a range is free.
    #[error("failed to bind host port {host_ip}:{first}-{last}/{protocol}: all ports are in use")]
    RangeInUse {
        /// The protocol.
        protocol: Protocol,
        /// The host's address.
        host_ip: Ipv4Addr,
        /// The range's first port.
        first: u16,
        /// The range's last port.
        last: u16,
    },
    /// The kernel refused for another reason: an address that is not the host's, say.
    #[error("failed to bind host port {host_ip}:{port}/{protocol}")]
    Bind {
        /// The protocol.
        protocol: Protocol,
        /// The host's address.
        host_ip: Ipv4Addr,
        /// The port; 0 is any.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The sockets could not be put together.
    #[error("cannot hold the published ports")]
    Hold(#[source] io::Error),
}

impl ReserveError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse { .. } | Self::RangeInUse { .. } => ErrorKind::Conflict,
            Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                ErrorKind::InvalidArgument
            }
            Self::Bind { .. } | Self::Hold(_) => ErrorKind::Internal,
        }
    }
}

/// Ports of the host that nobody else can take as long as this, or a copy of its descriptor, lives.
#[derive(Debug)]
pub struct Reservation {
    /// The ports.
    pub ports: Vec<PublishedPort>,
    held: OwnedFd,
}

impl AsFd for Reservation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.held.as_fd()
    }
}

/// A command that takes published ports out of the rules, for whoever sees the container end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// The program's path.
    pub program: std::path::PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its standard input.
    pub input: String,
}

impl NetworkDriver {
    /// Takes ports of the host, all or none.
    pub fn reserve(&self, wanted: &[PortMapping]) -> Result<Reservation, ReserveError> {
        let mut ports = Vec::new();
        let mut sockets = Vec::new();
        for mapping in wanted {
            let (host_port, socket) = self.take(mapping)?;
            let PortMapping { protocol, container_port, host_ip, .. } = *mapping;
            ports.push(PublishedPort { protocol, host_ip, host_port, container_port });
            sockets.extend(socket);
        }
        Ok(Reservation { ports, held: bundle(&sockets).map_err(ReserveError::Hold)? })
    }

    /// Leads ports of the host to a container, all at once. `interface` is the host's of the container's network.
    ///
    /// Neighbours that may not reach each other ([`crate::BridgeSpec::icc`]) reach each other's published ports only
    /// where br_netfilter is off: it turns what they send to the host into frames for the neighbour.
    pub fn publish(
        &self,
        interface: &IfName,
        address: Ipv4Addr,
        ports: &[PublishedPort],
    ) -> Result<(), BridgeError> {
        // What the host sends to its own loopback addresses goes to a container with such an address, too, until it is
        // masqueraded. The rules drop what containers send to them.
        self.switch_on(&format!("sys/net/ipv4/conf/{interface}/route_localnet"))?;
        firewall::publish(&self.instance, address, ports)?;
        if let Err(error) = forget_flows(ports) {
            // They come to the container once they have paused for half a minute.
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(
                error,
                "datagrams that were on their way to a port before it was published may miss it"
            );
        }
        Ok(())
    }

    /// Takes published ports out of the rules; those that are gone, or lead elsewhere by now, are as good.
    pub fn unpublish(&self, address: Ipv4Addr, ports: &[PublishedPort]) -> Result<(), FirewallError> {
        firewall::unpublish(&self.instance, address, ports)
    }

    /// The command that does what [`NetworkDriver::unpublish`] does.
    pub fn withdrawal(
        &self,
        address: Ipv4Addr,
        ports: &[PublishedPort],
    ) -> Result<Withdrawal, FirewallError> {
        firewall::withdrawal(&self.instance, address, ports)
    }

    fn take(&self, mapping: &PortMapping) -> Result<(u16, Option<OwnedFd>), ReserveError> {
        let PortMapping { protocol, host_ip, .. } = *mapping;
        let (first, last) = mapping.host_ports.unwrap_or((0, 0));
        for port in first..=last {
            match bind(protocol, SocketAddrV4::new(host_ip, port)) {
                Ok(taken) => return Ok(taken),
                Err(Errno::ADDRINUSE) if first != last => {}
                Err(Errno::ADDRINUSE) => {
                    let holder = port_holder::find(&self.proc, protocol, port);
                    return Err(ReserveError::InUse { protocol, host_ip, port, holder });
                }
                Err(e) => return Err(ReserveError::Bind { protocol, host_ip, port, source: e.into() }),
            }
        }
        Err(ReserveError::RangeInUse { protocol, host_ip, first, last })
    }
}

/// Has flows of datagrams that went to these ports before go by the rules of now.
fn forget_flows(ports: &[PublishedPort]) -> Result<(), NetlinkError> {
    let udp = || ports.iter().filter(|port| port.protocol == Protocol::Udp);
    if udp().next().is_none() {
        return Ok(());
    }
    let all = host_addresses()?;
    let targets = udp().flat_map(|port| {
        let addresses =
            if port.host_ip.is_unspecified() { &all[..] } else { std::slice::from_ref(&port.host_ip) };
        addresses.iter().map(|&address| (address, port.host_port))
    });
    conntrack::forget(&targets.collect())
}

/// Binds a socket that shares its port with nobody; port 0 is one that the kernel picks.
fn bind(protocol: Protocol, address: SocketAddrV4) -> Result<(u16, Option<OwnedFd>), Errno> {
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
        Protocol::Sctp => (SocketType::STREAM, ipproto::SCTP),
    };
    let socket = match rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, Some(number))
    {
        // This host speaks no SCTP, so none of its programs can have the port.
        Err(Errno::PROTONOSUPPORT) if address.port() != 0 => return Ok((address.port(), None)),
        socket => socket?,
    };
    // Connections of a program that had the port before may linger for a minute; only one that asks to reuse the port
    // gets it. So that nobody else who asks gets it, too, it has to have listened once; closing its ears takes away
    // what may have connected meanwhile, and leaves it bound.
    let reuse = protocol == Protocol::Tcp && address.port() != 0;
    sockopt::set_socket_reuseaddr(&socket, reuse)?;
    rustix::net::bind(&socket, &address)?;
    if reuse {
        rustix::net::listen(&socket, 0)?;
        sockopt::set_socket_reuseaddr(&socket, false)?;
        rustix::net::shutdown(&socket, Shutdown::Read)?;
    }
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?).map_err(|_| Errno::AFNOSUPPORT)?;
    Ok((bound.port(), Some(socket)))
}

/// Puts sockets under one descriptor, however many they are: into messages on a socket that nobody reads.
fn bundle(sockets: &[OwnedFd]) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (held, sender) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    for batch in sockets.chunks(BATCH) {
        let descriptors: Vec<BorrowedFd<'_>> = batch.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&sender, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_read_as_docker_reads_them() {
        assert_eq!("UDP".parse(), Ok(Protocol::Udp));
        assert_eq!("icmp".parse::<Protocol>().unwrap_err().to_string(), "invalid proto: icmp");
    }
}
