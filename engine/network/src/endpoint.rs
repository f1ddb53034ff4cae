use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use engine_types::{ErrorKind, NetworkId};

use crate::netlink::{CHANGE, CREATE, Connection, ENSURE, NetlinkError, Request, delete, link_named, up};
use crate::{IfName, NetworkDriver, Switch, netns};

/// How often an interface is asked whether its link is up, and how long each time to wait: together more than
/// the second by which the kernel may put off a link's change (net/core/link_watch.c).
const LINK_ATTEMPTS: u32 = 1200;
const LINK_INTERVAL: Duration = Duration::from_millis(1);

/// A container's place on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// The network.
    pub network: NetworkId,
    /// The network's bridge, which exists, on the host or in its switch ([`IfName::switch_bridge`]).
    pub bridge: IfName,
    /// Whether the container is kept from the network's other containers (the network's `icc` is off).
    pub isolated: bool,
    /// Whether the container has published ports. It reaches them itself only if the bridge sends it frames of its own,
    /// because br_netfilter has the rules applied to frames before they leave the bridge.
    pub hairpin: bool,
    /// The name of the pair's end at the bridge: see [`IfName::endpoint`].
    pub host_ifname: IfName,
    /// The name of the end in the container.
    pub container_ifname: IfName,
    /// The container's hardware address; by default it follows from the IP address, so that a neighbour's
    /// memory of the address stays right when a new container inherits it.
    pub mac: Option<[u8; 6]>,
    /// The container's address.
    pub address: Ipv4Addr,
    /// The length of the network's prefix, in bits.
    pub prefix: u8,
    /// Where the default route leads; `None` leaves the container without one.
    pub gateway: Option<Ipv4Addr>,
    /// The largest packet in bytes; by default the bridge's.
    pub mtu: Option<u32>,
}

/// Why a container could not be put on a network.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The network's bridge is gone.
    #[error("bridge {0} does not exist")]
    NoBridge(IfName),
    /// One of the two interface names is in use.
    #[error("interface name taken: {host} on the host or {container} in the container exists already")]
    NameTaken {
        /// The host's end.
        host: IfName,
        /// The container's end.
        container: IfName,
    },
    /// The kernel refused a step.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl AttachError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoBridge(_) => ErrorKind::NotFound,
            Self::NameTaken { .. } => ErrorKind::Conflict,
            Self::Netlink(e) => e.kind(),
        }
    }
}

impl NetworkDriver {
    /// Puts a container's network namespace on a network and leaves its interface and loopback up.
    ///
    /// The pair is created with its one end already inside the namespace: moving it there would wait 15-30 ms
    /// for the kernel. No nftables rule is touched; those are the network's. What was made is undone on failure.
    /// `switch` is where the network's bridge is, unless it is on the host.
    pub fn attach(
        &self,
        spec: &EndpointSpec,
        switch: Option<&Switch>,
        netns: BorrowedFd<'_>,
    ) -> Result<(), AttachError> {
        match switch {
            Some(switch) => netns::within(switch.as_fd(), |connection| self.join(spec, connection, netns)),
            None => self.join(spec, &mut Connection::open()?, netns),
        }
    }

    /// Connects to the bridge in the namespace of `host`.
    fn join(
        &self,
        spec: &EndpointSpec,
        host: &mut Connection,
        netns: BorrowedFd<'_>,
    ) -> Result<(), AttachError> {
        let bridge = host.link(&spec.bridge)?.ok_or_else(|| AttachError::NoBridge(spec.bridge.clone()))?;
        let mtu = spec.mtu.or_else(|| mtu_of(&bridge));
        match host.apply(create_pair(spec, bridge.header.index, mtu, netns)) {
            Err(e) if e.is(Errno::EXIST) => {
                let (host, container) = (spec.host_ifname.clone(), spec.container_ifname.clone());
                return Err(AttachError::NameTaken { host, container });
            }
            result => result?,
        }
        let pair = Pair { host, name: &spec.host_ifname };
        let ipv6 = self.kernel_has_ipv6();
        pair.host.apply_all(self.host_end(spec, ipv6))?;
        netns::within(netns, |inside| configure_container_end(inside, spec, ipv6))?;
        // In this order: a port brings its bridge's link up.
        await_link(pair.host, &spec.host_ifname)?;
        await_link(pair.host, &spec.bridge)?;
        pair.commit();
        Ok(())
    }

    /// The first name of an interface that is free in a container's network namespace.
    pub fn free_interface(&self, netns: BorrowedFd<'_>) -> Result<IfName, NetlinkError> {
        netns::within(netns, |inside| {
            let mut number = 0;
            loop {
                let name = IfName::eth(number);
                if inside.link(&name)?.is_none() {
                    return Ok(name);
                }
                number += 1;
            }
        })
    }

    /// Has a container's default route lead through `gateway`, wherever it led before.
    pub fn set_gateway(&self, netns: BorrowedFd<'_>, gateway: Ipv4Addr) -> Result<(), NetlinkError> {
        netns::within(netns, |inside| inside.apply(default_route(ENSURE, None, gateway)))
    }

    /// Brings the loopback interface of a network namespace up, which is all that a container without a
    /// network gets.
    pub fn loopback_up(&self, netns: BorrowedFd<'_>) -> Result<(), NetlinkError> {
        netns::within(netns, |inside| inside.apply(up(&IfName::loopback())))
    }

    /// Takes a running container off a network; its end of the pair goes too. Succeeds where there is none.
    ///
    /// An ended container needs no call: the pair goes with its network namespace.
    pub fn detach(&self, host_ifname: &IfName, switch: Option<&Switch>) -> Result<(), NetlinkError> {
        match switch {
            Some(switch) => netns::within(switch.as_fd(), |connection| delete_link(connection, host_ifname)),
            None => delete_link(&mut Connection::open()?, host_ifname),
        }
    }

    /// The second half of the host's end, which takes for granted that the interface is ours.
    fn host_end(&self, spec: &EndpointSpec, ipv6: bool) -> Vec<Request> {
        let name = &spec.host_ifname;
        let mut attributes = vec![LinkAttribute::IfAlias(self.instance.alias(&spec.network))];
        if ipv6 {
            attributes.push(without_link_local());
        }
        let flags = [
            spec.isolated.then_some(InfoBridgePort::Isolated(true)),
            spec.hairpin.then_some(InfoBridgePort::HairpinMode(true)),
        ];
        let flags: Vec<_> = flags.into_iter().flatten().collect();
        if !flags.is_empty() {
            attributes.push(LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(flags)),
            ]));
        }
        // RTM_SETLINK would ignore what concerns the bridge's port.
        let set = RouteNetlinkMessage::NewLink(link_named(name, attributes));
        vec![Request::new(format!("configure interface {name}"), CHANGE, set), up(name)]
    }
}

/// Waits until an interface passes packets.
///
/// Once its peer is up, the kernel enables a link in the background, up to a second later, and drops what is
/// sent before; a connection would notice only after the second in which TCP and ARP repeat themselves. Since
/// Linux 6.8, asking for an interface enables its link on the spot (`linkwatch_sync_dev` in `rtnl_getlink`), so
/// the first question suffices; older kernels are asked again. A link that stays down is no failure here.
pub(crate) fn await_link(connection: &mut Connection, name: &IfName) -> Result<(), NetlinkError> {
    for _ in 0..LINK_ATTEMPTS {
        let is_up = |link: LinkMessage| link.attributes.contains(&LinkAttribute::OperState(State::Up));
        if connection.link(name)?.is_some_and(is_up) {
            return Ok(());
        }
        thread::sleep(LINK_INTERVAL);
    }
    tracing::warn!(interface = %name, "the interface's link is still down");
    Ok(())
}

/// Deletes an interface; one that does not exist is as good.
pub(crate) fn delete_link(connection: &mut Connection, name: &IfName) -> Result<(), NetlinkError> {
    match connection.apply(delete(name)) {
        Err(e) if e.is(Errno::NODEV) => Ok(()),
        result => result,
    }
}

/// Adds an address to an interface, with the flags of the request given.
pub(crate) fn add_address(flags: u16, name: &IfName, index: u32, address: Ipv4Addr, prefix: u8) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
    let step = format!("add address {address}/{prefix} to interface {name}");
    Request::new(step, flags, RouteNetlinkMessage::NewAddress(message))
}

pub(crate) fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|a| if let LinkAttribute::Mtu(mtu) = a { Some(*mtu) } else { None })
}

/// A veth pair that is deleted unless [`Pair::commit`] was called.
struct Pair<'a> {
    host: &'a mut Connection,
    name: &'a IfName,
}

impl Pair<'_> {
    fn commit(self) {
        std::mem::forget(self);
    }
}

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        if let Err(error) = delete_link(self.host, self.name) {
            tracing::warn!(interface = %self.name, %error, "a half-made interface stays behind");
        }
    }
}

fn create_pair(spec: &EndpointSpec, bridge: u32, mtu: Option<u32>, netns: BorrowedFd<'_>) -> Request {
    let mac = spec.mac.unwrap_or_else(|| mac_of(spec.address));
    let mtu = mtu.map(LinkAttribute::Mtu);
    let peer = link_named(
        &spec.container_ifname,
        [LinkAttribute::Address(mac.to_vec()), LinkAttribute::NetNsFd(netns.as_raw_fd())]
            .into_iter()
            .chain(mtu.clone()),
    );
    let pair = link_named(
        &spec.host_ifname,
        [
            LinkAttribute::Controller(bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ]
        .into_iter()
        .chain(mtu),
    );
    let step = format!("create interface {} on bridge {}", spec.host_ifname, spec.bridge);
    Request::new(step, CREATE, RouteNetlinkMessage::NewLink(pair))
}

/// Docker's scheme: a locally administered prefix and the four bytes of the address.
fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

fn configure_container_end(
    inside: &mut Connection,
    spec: &EndpointSpec,
    ipv6: bool,
) -> Result<(), NetlinkError> {
    let name = &spec.container_ifname;
    let link = inside
        .link(name)?
        .ok_or_else(|| NetlinkError::new(format!("find interface {name} in the container"), Errno::NODEV))?;
    let mut requests = vec![up(&IfName::loopback())];
    if ipv6 {
        let set = RouteNetlinkMessage::SetLink(link_named(name, [without_link_local()]));
        requests.push(Request::new(format!("configure interface {name} in the container"), CHANGE, set));
    }
    requests.push(add_address(CREATE, name, link.header.index, spec.address, spec.prefix));
    requests.push(up(name));
    if let Some(gateway) = spec.gateway {
        requests.push(default_route(CREATE, Some(link.header.index), gateway));
    }
    inside.apply_all(requests)?;
    await_link(inside, name)
}

/// Networks have no IPv6, so an interface needs no link-local address, nor the traffic that looks for others
/// with the same.
fn without_link_local() -> LinkAttribute {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])
}

/// Without an interface, the one is meant that leads to the gateway.
fn default_route(flags: u16, index: Option<u32>, gateway: Ipv4Addr) -> Request {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = RouteProtocol::Boot;
    route.header.scope = RouteScope::Universe;
    route.header.kind = RouteType::Unicast;
    route.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
    route.attributes.extend(index.map(RouteAttribute::Oif));
    let step = format!("add a default route through {gateway} in the container");
    Request::new(step, flags, RouteNetlinkMessage::NewRoute(route))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_follow_dockers_scheme() {
        assert_eq!(mac_of(Ipv4Addr::new(172, 18, 0, 2)), [0x02, 0x42, 0xac, 0x12, 0x00, 0x02]);
    }
}
