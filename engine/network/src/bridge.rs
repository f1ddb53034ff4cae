use std::fs::{self, File};
use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use engine_types::{ErrorKind, NetworkId};

use crate::endpoint::{add_address, delete_link, mtu_of};
use crate::netlink::{CHANGE, CREATE, Connection, ENSURE, NetlinkError, Request, link_named, up};
use crate::teardown::{self, TeardownFailure};
use crate::{FirewallError, ForwardPolicyError, IfName, NetworkDriver, firewall, forward_policy};

/// An address that is nobody's (RFC 5737, TEST-NET-3), so that the route to it is the default route.
const FAR_AWAY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The longest prefix that leaves room for the gateway and one container.
const LONGEST_PREFIX: u8 = 30;

/// A network as its bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSpec {
    /// The network.
    pub id: NetworkId,
    /// The bridge's name: see [`NetworkDriver::bridge_name`].
    pub name: IfName,
    /// The network's addresses; IPv6 will be a further, optional pair of fields.
    pub subnet: Ipv4Net,
    /// The bridge's own address, within the subnet.
    pub gateway: Ipv4Addr,
    /// Whether the network has no way in or out.
    pub internal: bool,
    /// Whether its containers may reach each other.
    pub icc: bool,
    /// Whether what its containers send outside carries the host's address.
    pub masquerade: bool,
    /// The largest packet in bytes; by default that of the interface that holds the host's default route.
    pub mtu: Option<u32>,
    /// Whether its containers may reach the host's own services and link-local (metadata) addresses.
    pub host_access: bool,
}

/// Why a network could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The gateway cannot be the gateway of the subnet.
    #[error("invalid network: gateway {gateway} is not a host address of subnet {subnet}")]
    Gateway {
        /// The bridge's address.
        gateway: Ipv4Addr,
        /// The network's subnet.
        subnet: Ipv4Net,
    },
    /// The subnet has no room for a gateway and a container.
    #[error("invalid network: subnet {0} is smaller than a /{LONGEST_PREFIX}")]
    TooSmall(Ipv4Net),
    /// Another interface, which is not this network's bridge, has the name.
    #[error("interface name taken: {0} exists and is not this network's bridge")]
    NameTaken(IfName),
    /// The kernel refused a step.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A kernel setting could not be read or made.
    #[error("cannot set {} to 1", path.display())]
    Sysctl {
        /// The setting's file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The rules could not be made.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The host's own FORWARD chain stands in the way.
    #[error(transparent)]
    ForwardPolicy(#[from] ForwardPolicyError),
}

impl BridgeError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Gateway { .. } | Self::TooSmall(_) => ErrorKind::InvalidArgument,
            Self::NameTaken(_) => ErrorKind::Conflict,
            Self::Netlink(e) => e.kind(),
            Self::Sysctl { .. } => ErrorKind::Unsupported,
            Self::Firewall(e) => e.kind(),
            Self::ForwardPolicy(e) => e.kind(),
        }
    }
}

/// What of a network could not be removed; the rest was.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove all of bridge {name}: {}", teardown::messages(failures))]
pub struct RemoveBridgeError {
    /// The bridge.
    pub name: IfName,
    /// What stood in the way, at least one.
    pub failures: Vec<TeardownFailure>,
}

impl RemoveBridgeError {
    /// What this error means to the caller: the first failure's kind.
    pub fn kind(&self) -> ErrorKind {
        teardown::kind(&self.failures)
    }
}

impl NetworkDriver {
    /// Makes a network's bridge and rules, or whatever of them is missing.
    ///
    /// Several processes may do so at once for the same network. What this call made is undone when it fails,
    /// except that the host keeps forwarding packets.
    pub fn ensure_bridge(&self, spec: &BridgeSpec) -> Result<(), BridgeError> {
        validate(spec)?;
        let mut connection = Connection::open()?;
        let undo = Undo { driver: self, spec, created: create_bridge(&mut connection, spec)? };
        let link = connection.link(&spec.name)?.filter(|link| is_bridge_of(link, &spec.id));
        let index = link.ok_or_else(|| BridgeError::NameTaken(spec.name.clone()))?.header.index;
        let mtu = match spec.mtu {
            Some(mtu) => Some(mtu),
            None => uplink_mtu(&mut connection)?,
        };
        self.admit(spec, &mut connection, index, mtu)?;
        undo.commit();
        Ok(())
    }

    /// Gives the host's interface of a network its rules, its address and, last, its link.
    pub(crate) fn admit(
        &self,
        spec: &BridgeSpec,
        connection: &mut Connection,
        index: u32,
        mtu: Option<u32>,
    ) -> Result<(), BridgeError> {
        // An unasked-for router advertisement from a container must not configure the host.
        if self.kernel_has_ipv6() {
            self.switch_on(&format!("sys/net/ipv6/conf/{}/disable_ipv6", spec.name))?;
        }
        let dropping = firewall::add_network(&self.instance, spec)?;
        forward_policy::override_drop(dropping, &self.proc)?;
        self.switch_on("sys/net/ipv4/ip_forward")?;
        Ok(connection.apply_all(self.configure(spec, index, mtu))?)
    }

    /// Whether [`NetworkDriver::ensure_bridge`] has finished for this network since the machine started. Bringing the
    /// bridge up is its last step.
    pub fn is_ready(&self, spec: &BridgeSpec) -> Result<bool, BridgeError> {
        let link = Connection::open()?.link(&spec.name)?.filter(|link| is_bridge_of(link, &spec.id));
        Ok(link.is_some_and(|link| link.header.flags.contains(LinkFlags::Up)))
    }

    /// Removes a network's bridge and rules, goes on past a failure and returns all. Repeating it is harmless. The
    /// kernel takes tens of milliseconds to delete a bridge.
    pub fn remove_bridge(&self, spec: &BridgeSpec) -> Result<(), RemoveBridgeError> {
        let mut failures: Vec<TeardownFailure> = Vec::new();
        // The interface first: without its rules it would stand open.
        match Connection::open().and_then(|mut connection| delete_link(&mut connection, &spec.name)) {
            Ok(()) => failures
                .extend(firewall::remove_network(&self.instance, spec).err().map(TeardownFailure::from)),
            Err(e) => failures.push(e.into()),
        }
        let name = spec.name.clone();
        if failures.is_empty() { Ok(()) } else { Err(RemoveBridgeError { name, failures }) }
    }

    fn configure(&self, spec: &BridgeSpec, index: u32, mtu: Option<u32>) -> Vec<Request> {
        let name = &spec.name;
        // Set on the existing bridge, the MTU stays; given at its creation, it would follow the ports'.
        let attributes = [LinkAttribute::IfAlias(self.instance.alias(&spec.id))]
            .into_iter()
            .chain(mtu.map(LinkAttribute::Mtu));
        let set = RouteNetlinkMessage::SetLink(link_named(name, attributes));
        vec![
            Request::new(format!("configure bridge {name}"), CHANGE, set),
            add_address(ENSURE, name, index, spec.gateway, spec.subnet.prefix_len()),
            up(name),
        ]
    }

    /// Writes 1 to a kernel setting unless it has it, so that a read-only `/proc/sys` is no hindrance.
    ///
    /// Under a lock: of two writers of `ip_forward` at once, each can see the other's value before the kernel
    /// acted on it, take it for done and leave forwarding off on every interface (`devinet_sysctl_forward` stores
    /// the value first and takes it back while somebody else holds the kernel's network lock).
    pub(crate) fn switch_on(&self, setting: &str) -> Result<(), BridgeError> {
        let path = self.proc.join(setting);
        let switch = || {
            let mut file = File::open(&path)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            let mut value = String::new();
            file.read_to_string(&mut value)?;
            if value.trim() == "1" { Ok(()) } else { fs::write(&path, "1") }
        };
        switch().map_err(|source| BridgeError::Sysctl { path: path.clone(), source })
    }
}

pub(crate) fn validate(spec: &BridgeSpec) -> Result<(), BridgeError> {
    let subnet = spec.subnet.trunc();
    if subnet.prefix_len() > LONGEST_PREFIX {
        return Err(BridgeError::TooSmall(subnet));
    }
    let gateway = spec.gateway;
    if !subnet.contains(&gateway) || gateway == subnet.network() || gateway == subnet.broadcast() {
        return Err(BridgeError::Gateway { gateway, subnet });
    }
    Ok(())
}

/// A bridge that is removed again, with its rules, unless [`Undo::commit`] was called.
struct Undo<'a> {
    driver: &'a NetworkDriver,
    spec: &'a BridgeSpec,
    created: bool,
}

impl Undo<'_> {
    fn commit(mut self) {
        self.created = false;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.created {
            return;
        }
        if let Err(error) = self.driver.remove_bridge(self.spec) {
            tracing::warn!(bridge = %self.spec.name, %error, "a half-made bridge stays behind");
        }
    }
}

/// Creates the bridge and says whether it was not there before.
fn create_bridge(connection: &mut Connection, spec: &BridgeSpec) -> Result<bool, NetlinkError> {
    let attributes = [
        // Without an address of its own, a bridge changes its address with its ports.
        LinkAttribute::Address(mac_of(&spec.id).to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    let create = RouteNetlinkMessage::NewLink(link_named(&spec.name, attributes));
    match connection.apply(Request::new(format!("create bridge {}", spec.name), CREATE, create)) {
        Ok(()) => Ok(true),
        Err(e) if e.is(Errno::EXIST) => Ok(false),
        Err(e) => Err(e),
    }
}

/// A locally administered address that says whose the bridge is from the moment it exists; the alias comes
/// later.
pub(crate) fn mac_of(id: &NetworkId) -> [u8; 6] {
    let mut mac = [0x02, 0, 0, 0, 0, 0];
    hex::decode_to_slice(&id.to_string()[..10], &mut mac[1..]).expect("an id is 64 hex digits");
    mac
}

fn is_bridge_of(link: &LinkMessage, id: &NetworkId) -> bool {
    let has_mac = link.attributes.contains(&LinkAttribute::Address(mac_of(id).to_vec()));
    let is_bridge = link.attributes.iter().any(
        |attribute| matches!(attribute, LinkAttribute::LinkInfo(info) if info.contains(&LinkInfo::Kind(InfoKind::Bridge))),
    );
    has_mac && is_bridge
}

/// The MTU of the interface that leads to the rest of the world; `None` where no route does.
pub(crate) fn uplink_mtu(connection: &mut Connection) -> Result<Option<u32>, NetlinkError> {
    let mut query = RouteMessage::default();
    query.header.address_family = AddressFamily::Inet;
    query.header.destination_prefix_length = 32;
    query.header.flags = RouteFlags::LookupTable;
    query.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(FAR_AWAY)));
    let route = match connection.get("find the default route", RouteNetlinkMessage::GetRoute(query)) {
        Ok(RouteNetlinkMessage::NewRoute(route)) => route,
        Ok(_) => return Ok(None),
        Err(e) if e.is(Errno::NETUNREACH) || e.is(Errno::HOSTUNREACH) || e.is(Errno::ACCESS) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let output = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let Some(index) = output else { return Ok(None) };
    let mut uplink = LinkMessage::default();
    uplink.header.index = index;
    match connection.get("look up the uplink interface", RouteNetlinkMessage::GetLink(uplink))? {
        RouteNetlinkMessage::NewLink(link) => Ok(mtu_of(&link)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(subnet: &str, gateway: &str) -> BridgeSpec {
        BridgeSpec {
            id: NetworkId::from_random([0xab; 32]),
            name: "ltx".parse().unwrap(),
            subnet: subnet.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            internal: false,
            icc: true,
            masquerade: true,
            mtu: None,
            host_access: false,
        }
    }

    #[test]
    fn a_gateway_is_a_host_address_of_its_subnet() {
        assert!(validate(&spec("172.18.0.0/16", "172.18.0.1")).is_ok());
        assert!(validate(&spec("172.18.0.9/16", "172.18.0.1")).is_ok());
        for gateway in ["172.18.0.0", "172.18.255.255", "172.19.0.1"] {
            let error = validate(&spec("172.18.0.0/16", gateway)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{gateway}");
        }
        assert!(matches!(validate(&spec("10.0.0.0/31", "10.0.0.1")), Err(BridgeError::TooSmall(_))));
    }

    #[test]
    fn a_bridges_hardware_address_is_local_and_from_its_id() {
        assert_eq!(mac_of(&NetworkId::from_random([0xab; 32])), [0x02, 0xab, 0xab, 0xab, 0xab, 0xab]);
    }
}
