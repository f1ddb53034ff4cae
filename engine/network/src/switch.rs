//! Networks whose bridge lives in a network namespace of its own, with a cable to the host.
//!
//! Deleting a bridge makes its owner wait 45-70 ms for the kernel. A namespace goes in the background, with the
//! bridge and all cables, once nobody holds it any more; so that whoever is killed leaves no interface either. On the
//! host the network is one interface with the bridge's name, address and rules; only its containers' are not seen.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo};
use rustix::io::Errno;

use crate::bridge::{BridgeError, BridgeSpec, mac_of, uplink_mtu, validate};
use crate::endpoint::await_link;
use crate::netlink::{CREATE, Connection, NetlinkError, Request, link_named, up};
use crate::{FirewallError, IfName, NetworkDriver, firewall, netns};

/// The namespace of a network's bridge. The network lasts as long as somebody holds its descriptor, or a copy of it.
#[derive(Debug)]
pub struct Switch(OwnedFd);

impl Switch {
    /// Takes a copy of a switch's descriptor that another process has sent.
    pub fn from_descriptor(namespace: OwnedFd) -> Self {
        Self(namespace)
    }
}

impl AsFd for Switch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl NetworkDriver {
    /// Makes a network's bridge in a namespace of its own, its interface on the host and its rules.
    ///
    /// What was made is undone on failure, except that the host keeps forwarding packets.
    pub fn make_switch(&self, spec: &BridgeSpec) -> Result<Switch, BridgeError> {
        validate(spec)?;
        let mut host = Connection::open()?;
        let mtu = match spec.mtu {
            Some(mtu) => Some(mtu),
            None => uplink_mtu(&mut host)?,
        };
        let switch = self.wire(spec, mtu)?;
        let link = host
            .link(&spec.name)?
            .ok_or_else(|| NetlinkError::new("find the new interface", Errno::NODEV))?;
        let undo = Rules { driver: self, spec };
        self.admit(spec, &mut host, link.header.index, None)?;
        await_link(&mut host, &spec.name)?;
        undo.commit();
        Ok(switch)
    }

    /// Lets go of a switch, if this process holds it, and removes the network's rules. Where nobody holds it any more,
    /// the interfaces go in the background. Repeating it is harmless. No container may be on the network.
    pub fn remove_switch(&self, spec: &BridgeSpec, switch: Option<Arc<Switch>>) -> Result<(), FirewallError> {
        drop(switch);
        firewall::remove_network(&self.instance, spec)
    }

    /// The bridge, and a cable whose other end is on the host.
    fn wire(&self, spec: &BridgeSpec, mtu: Option<u32>) -> Result<Switch, BridgeError> {
        let host = File::open(self.proc.join("thread-self/ns/net"))
            .map_err(|e| NetlinkError::new("open the host's network namespace", e))?;
        let ipv6 = self.kernel_has_ipv6().then(|| self.proc.join("sys/net/ipv6/conf/default/disable_ipv6"));
        let (bridge, port) = (IfName::switch_bridge(), IfName::switch_port());
        let made = netns::within_new(&self.proc, |inside| {
            if let Some(setting) = &ipv6 {
                fs::write(setting, "1").map_err(|e| NetlinkError::new("switch IPv6 off", e))?;
            }
            let kind = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]);
            let create = RouteNetlinkMessage::NewLink(link_named(&bridge, [kind]));
            inside.apply(Request::new("create a bridge", CREATE, create))?;
            let index = inside.link(&bridge)?.map_or(0, |link| link.header.index);
            inside.apply(cable(spec, &port, index, mtu, host.as_raw_fd()))?;
            inside.apply_all(vec![up(&bridge), up(&port)])
        });
        match made {
            Err(e) if e.is(Errno::EXIST) => Err(BridgeError::NameTaken(spec.name.clone())),
            made => Ok(Switch(made?)),
        }
    }
}

/// Created from inside, so that one message also makes the port the bridge's.
fn cable(spec: &BridgeSpec, port: &IfName, bridge: u32, mtu: Option<u32>, host: i32) -> Request {
    let mtu = mtu.map(LinkAttribute::Mtu);
    let outside = link_named(
        &spec.name,
        [LinkAttribute::Address(mac_of(&spec.id).to_vec()), LinkAttribute::NetNsFd(host)]
            .into_iter()
            .chain(mtu.clone()),
    );
    let info = LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(outside))),
    ]);
    let inside = link_named(port, [LinkAttribute::Controller(bridge), info].into_iter().chain(mtu));
    Request::new(format!("create interface {}", spec.name), CREATE, RouteNetlinkMessage::NewLink(inside))
}

/// Rules that are taken out again unless [`Rules::commit`] was called. The interfaces go with the namespace.
struct Rules<'a> {
    driver: &'a NetworkDriver,
    spec: &'a BridgeSpec,
}

impl Rules<'_> {
    fn commit(self) {
        std::mem::forget(self);
    }
}

impl Drop for Rules<'_> {
    fn drop(&mut self) {
        if let Err(error) = firewall::remove_network(&self.driver.instance, self.spec) {
            tracing::warn!(bridge = %self.spec.name, %error, "rules of a half-made network stay behind");
        }
    }
}
