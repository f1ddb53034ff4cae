//! Bridges, veth pairs, addresses and nftables.
//!
//! A network is a bridge and a few elements of the sets in one nftables table per engine root (`firewall.rs`); a
//! container on it is a veth pair. The bridge is on the host or, for networks that come and go, in a namespace of its
//! own (`switch.rs`). This crate only applies: which subnet and which address,
//! and that nobody sweeps while another creates, is the caller's to decide. It keeps nothing in memory: what
//! exists is read from the kernel, where each interface says in its alias (`lighter:<instance>:<network id>`)
//! whose it is.
//!
//! Networks are IPv4. IPv6 is off on the bridges, and the rules drop it, so nothing of the host is reached
//! through link-local addresses.

mod bridge;
mod conntrack;
mod endpoint;
mod firewall;
mod forward_policy;
mod name;
mod netlink;
mod netns;
mod port_holder;
mod ports;
mod program;
mod subnet;
mod sweep;
mod switch;
mod teardown;

use std::path::{Path, PathBuf};

use name::Instance;

pub use bridge::{BridgeError, BridgeSpec, RemoveBridgeError};
pub use endpoint::{AttachError, EndpointSpec};
pub use firewall::FirewallError;
pub use forward_policy::ForwardPolicyError;
pub use ipnet::Ipv4Net;
pub use name::{IfName, ParseIfNameError, ParseInstanceError};
pub use netlink::NetlinkError;
pub use port_holder::Holder;
pub use ports::{
    ParseProtocolError, PortMapping, Protocol, PublishedPort, Reservation, ReserveError, Withdrawal,
};
pub use program::ProgramError;
pub use subnet::{DEFAULT_POOLS, FreeSubnetError, SubnetPool};
pub use sweep::{SweepError, Swept};
pub use switch::Switch;
pub use teardown::TeardownFailure;

use engine_types::NetworkId;

/// Applies networks to the kernel, in the network namespace of the calling thread.
///
/// It has no state of its own and may be used from several threads and processes at once.
#[derive(Debug, Clone)]
pub struct NetworkDriver {
    instance: Instance,
    proc: PathBuf,
}

impl NetworkDriver {
    /// Makes a driver for one engine root, which `instance`, eight hex digits, tells from others on the host.
    pub fn new(instance: &str, proc: &Path) -> Result<Self, ParseInstanceError> {
        Ok(Self { instance: instance.parse()?, proc: proc.to_owned() })
    }

    /// Derives the name of a network's bridge from the instance and the network's id.
    pub fn bridge_name(&self, network: &NetworkId) -> IfName {
        self.instance.bridge(network)
    }

    /// Whether this kernel runs IPv6 at all; one that does not refuses settings for it.
    fn kernel_has_ipv6(&self) -> bool {
        self.proc.join("sys/net/ipv6").exists()
    }
}
