//! Where a container is on its networks.

use std::cmp::Reverse;
use std::net::Ipv4Addr;

use engine_types::ContainerId;

use super::{ContainerConfig, EndpointConfig};
use crate::catalog::ContainerRow;
use crate::engine::Engine;
use crate::error::Error;
use crate::network::Network;

/// A container's place on a network.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) endpoint: EndpointConfig,
    pub(crate) network: Network,
    pub(crate) address: Ipv4Addr,
    /// The default route goes by here, and published ports lead here.
    pub(crate) leads_out: bool,
}

impl Place {
    pub(crate) fn new(endpoint: EndpointConfig, network: Network, address: Ipv4Addr) -> Self {
        Self { endpoint, network, address, leads_out: false }
    }
}

/// Has one of several places lead out as Docker does: that of the highest priority, then that whose network's name comes
/// first. None does if there is no way out of any network.
pub(crate) fn choose_way_out(places: &mut [Place]) {
    let open = places.iter_mut().filter(|place| !place.network.config.internal);
    let first = open.min_by_key(|place| (Reverse(place.endpoint.priority), place.network.name.clone()));
    if let Some(place) = first {
        place.leads_out = true;
    }
}

impl Engine {
    /// Finds a place on each of a container's networks, for it to be wired.
    pub(crate) async fn take_places(
        &self,
        row: &ContainerRow,
        config: &ContainerConfig,
    ) -> Result<Vec<Place>, Error> {
        let mut places = Vec::new();
        for endpoint in config.endpoints() {
            let network = self.network(&endpoint.network).await?;
            self.adopt_switch(&network).await?;
            let address = self.allocate_address(row, config, &endpoint, &network).await?;
            places.push(Place::new(endpoint, network, address));
        }
        choose_way_out(&mut places);
        Ok(places)
    }

    /// The places that a container has already.
    pub(crate) async fn places(
        &self,
        id: ContainerId,
        config: &ContainerConfig,
    ) -> Result<Vec<Place>, Error> {
        let addresses = self.catalog().addresses_of(id).await?;
        let mut places = Vec::new();
        for endpoint in config.endpoints() {
            let network = match self.network(&endpoint.network).await {
                Ok(network) => network,
                Err(Error::NoSuchNetwork(_)) => continue,
                Err(e) => return Err(e),
            };
            if let Some((_, address)) = addresses.iter().find(|(id, _)| *id == network.id) {
                places.push(Place::new(endpoint, network, *address));
            }
        }
        choose_way_out(&mut places);
        Ok(places)
    }

    /// Gives the addresses of a container that has ended back, so that others get them and its names lead nowhere.
    pub async fn leave_networks(&self, id: ContainerId) -> Result<(), Error> {
        if self.container(&id.to_string()).await?.running {
            return Ok(());
        }
        for network in self.catalog().release_addresses(id).await? {
            self.write_names(network).await?;
        }
        Ok(())
    }

    pub(crate) async fn allocate_address(
        &self,
        row: &ContainerRow,
        config: &ContainerConfig,
        endpoint: &EndpointConfig,
        network: &Network,
    ) -> Result<Ipv4Addr, Error> {
        let mut names = vec![row.name.clone(), row.id.short()];
        names.extend(config.hostname.clone());
        names.extend(endpoint.aliases.iter().cloned());
        let (catalog, id) = (self.catalog(), row.id);
        let address = match endpoint.address {
            Some(wanted) => {
                self.make_room(id, network, wanted).await?;
                let taken = catalog.allocate_address(id, network.id, &names, [wanted].into_iter()).await?;
                taken.ok_or(Error::AddressInUse)?
            }
            None => {
                let taken = catalog.allocate_address(id, network.id, &names, network.candidates()).await?;
                taken.ok_or_else(|| Error::NoFreeAddress(network.name.clone()))?
            }
        };
        self.write_names(network.id).await?;
        Ok(address)
    }

    /// An address that is asked for is taken from a container that does not run, and from this one if it had another.
    async fn make_room(&self, id: ContainerId, network: &Network, wanted: Ipv4Addr) -> Result<(), Error> {
        for (holder, address) in self.network_members(network).await? {
            let in_the_way = if holder == id { address != wanted } else { address == wanted };
            if in_the_way && (holder == id || !self.container(&holder.to_string()).await?.running) {
                self.catalog().release_address(holder, network.id).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::network::NetworkConfig;

    fn place(name: &str, internal: bool, priority: i64) -> Place {
        let endpoint = EndpointConfig { priority, ..EndpointConfig::default() };
        let config = NetworkConfig { internal, ..NetworkConfig::default() };
        let network = Network {
            id: engine_types::NetworkId::from_random([1; 32]),
            name: name.to_owned(),
            subnet: "10.0.0.0/24".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 0, 0, 1),
            config,
            created: Timestamp::UNIX_EPOCH,
        };
        Place::new(endpoint, network, Ipv4Addr::new(10, 0, 0, 2))
    }

    #[track_caller]
    fn check(mut places: Vec<Place>, expected: Option<&str>) {
        choose_way_out(&mut places);
        let chosen: Vec<_> = places.iter().filter(|p| p.leads_out).map(|p| p.network.name.as_str()).collect();
        assert_eq!(chosen, expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn the_way_out_is_by_priority_then_by_name() {
        check(vec![place("b", false, 0), place("a", false, 0)], Some("a"));
        check(vec![place("b", false, 1), place("a", false, 0)], Some("b"));
        check(vec![place("a", true, 9), place("b", false, 0)], Some("b"));
        check(vec![place("a", true, 0)], None);
    }
}
