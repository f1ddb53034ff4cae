use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use engine_types::ErrorKind;

use crate::NetworkDriver;
use crate::netlink::{Connection, NetlinkError};

/// A range of addresses that is cut into subnets of equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetPool {
    /// The whole range.
    pub base: Ipv4Net,
    /// The prefix length of a subnet, in bits; not shorter than the range's own.
    pub size: u8,
}

/// Docker's pools (moby, `libnetwork/ipamutils`, `localScopeDefaultNetworks`): 15 subnets /16 and 16 /20.
pub const DEFAULT_POOLS: [SubnetPool; 7] = [
    pool([172, 17, 0, 0], 16, 16),
    pool([172, 18, 0, 0], 16, 16),
    pool([172, 19, 0, 0], 16, 16),
    pool([172, 20, 0, 0], 14, 16),
    pool([172, 24, 0, 0], 14, 16),
    pool([172, 28, 0, 0], 14, 16),
    pool([192, 168, 0, 0], 16, 20),
];

const fn pool([a, b, c, d]: [u8; 4], prefix: u8, size: u8) -> SubnetPool {
    SubnetPool { base: Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix), size }
}

/// Why no subnet was found.
#[derive(Debug, thiserror::Error)]
pub enum FreeSubnetError {
    /// Every subnet of the pools overlaps a network, a route, an address or a resolver.
    #[error("no free subnet: all of the address pools overlap other networks or the host's routes")]
    Exhausted,
    /// The host's routes or addresses could not be read.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

impl FreeSubnetError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exhausted => ErrorKind::Conflict,
            Self::Netlink(e) => e.kind(),
        }
    }
}

impl NetworkDriver {
    /// Picks the first subnet of the pools that overlaps neither `networks` nor anything that the host reaches
    /// by a route, an address of its own, or as one of its `resolvers`. Each pool is gone through in a circle from its
    /// subnet number `start`: who picks at the same time on another root should not begin with the same.
    pub fn free_subnet(
        &self,
        pools: &[SubnetPool],
        networks: &[Ipv4Net],
        resolvers: &[Ipv4Addr],
        start: usize,
    ) -> Result<Ipv4Net, FreeSubnetError> {
        let mut taken = host_subnets(&mut Connection::open()?)?;
        taken.extend_from_slice(networks);
        taken.extend(resolvers.iter().copied().map(Ipv4Net::from));
        first_free(pools, &taken, start).ok_or(FreeSubnetError::Exhausted)
    }
}

fn first_free(pools: &[SubnetPool], taken: &[Ipv4Net], start: usize) -> Option<Ipv4Net> {
    pools
        .iter()
        // A pool whose subnets would be longer than itself has none.
        .filter_map(|pool| pool.base.subnets(pool.size).ok())
        .flat_map(|subnets| {
            let all: Vec<Ipv4Net> = subnets.collect();
            (0..all.len()).map(move |n| all[(start + n) % all.len()])
        })
        .find(|subnet| !taken.iter().any(|other| subnet.contains(other) || other.contains(subnet)))
}

/// The destinations of the host's routes, of every table, and its addresses.
fn host_subnets(connection: &mut Connection) -> Result<Vec<Ipv4Net>, NetlinkError> {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet;
    let mut objects = connection.dump("list the host's routes", &RouteNetlinkMessage::GetRoute(route))?;
    objects.extend(connection.dump("list the host's addresses", &RouteNetlinkMessage::GetAddress(address))?);
    Ok(objects.iter().filter_map(subnet_of).collect())
}

/// The host's addresses.
pub(crate) fn host_addresses() -> Result<Vec<Ipv4Addr>, NetlinkError> {
    let mut address = AddressMessage::default();
    address.header.family = AddressFamily::Inet;
    let all = RouteNetlinkMessage::GetAddress(address);
    let objects = Connection::open()?.dump("list the host's addresses", &all)?;
    let local = |object: &RouteNetlinkMessage| {
        let RouteNetlinkMessage::NewAddress(message) = object else { return None };
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        })
    };
    Ok(objects.iter().filter_map(local).collect())
}

fn subnet_of(object: &RouteNetlinkMessage) -> Option<Ipv4Net> {
    let (address, prefix) = match object {
        RouteNetlinkMessage::NewRoute(route) => {
            let destination = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
                _ => None,
            });
            (destination?, route.header.destination_prefix_length)
        }
        RouteNetlinkMessage::NewAddress(message) => {
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(IpAddr::V4(address)) => Some(*address),
                _ => None,
            });
            (local?, message.header.prefix_len)
        }
        _ => return None,
    };
    // A default route covers everything and excludes nothing. One split into two halves (VPNs do it) is no
    // more than that.
    const SHORTEST_EXCLUDING_PREFIX: u8 = 2;
    if prefix < SHORTEST_EXCLUDING_PREFIX {
        return None;
    }
    Ipv4Net::new(address, prefix).ok().map(|net| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(s: &str) -> Ipv4Net {
        s.parse().unwrap()
    }

    #[track_caller]
    fn check(taken: &[&str], expected: Option<&str>) {
        let taken: Vec<_> = taken.iter().copied().map(net).collect();
        assert_eq!(first_free(&DEFAULT_POOLS, &taken, 0), expected.map(net));
    }

    #[test]
    fn takes_the_first_subnet_that_overlaps_nothing() {
        check(&[], Some("172.17.0.0/16"));
        check(&["172.17.0.0/16"], Some("172.18.0.0/16"));
        check(&["172.17.3.0/24", "172.18.0.1/32"], Some("172.19.0.0/16"));
        check(&["172.16.0.0/12"], Some("192.168.0.0/20"));
        check(&["172.16.0.0/12", "192.168.0.0/24"], Some("192.168.16.0/20"));
    }

    #[test]
    fn goes_through_a_pool_in_a_circle() {
        let pool = [SubnetPool { base: net("172.30.0.0/16"), size: 18 }];
        let taken = [net("172.30.128.0/18"), net("172.30.192.0/24")];
        assert_eq!(first_free(&pool, &taken, 6), Some(net("172.30.0.0/18")));
    }

    #[test]
    fn finds_none_where_everything_is_taken() {
        check(&["172.16.0.0/12", "192.168.0.0/16"], None);
        assert_eq!(first_free(&[SubnetPool { base: net("10.0.0.0/16"), size: 8 }], &[], 0), None);
    }

    #[test]
    fn the_default_pools_are_dockers_31_subnets() {
        let all = DEFAULT_POOLS.iter().map(|pool| pool.base.subnets(pool.size).unwrap().count());
        assert_eq!(all.sum::<usize>(), 31);
    }
}
