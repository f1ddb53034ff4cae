//! Networks of a container that come and go while it is there.

use std::os::fd::{AsFd, OwnedFd};

use engine_network::IfName;
use engine_runtime::{Client, ClientError};
use engine_types::ContainerId;

use super::place::Place;
use super::{ContainerConfig, EndpointConfig, NetworkMode, not_running};
use crate::catalog::{ContainerRow, from_json, to_json};
use crate::engine::{Engine, blocking};
use crate::error::Error;
use crate::network::Network;

impl Engine {
    /// Puts a container on a further network, at once if it runs.
    pub async fn connect_network(&self, key: &str, endpoint: EndpointConfig) -> Result<Network, Error> {
        let row = self.catalog().container(key).await?;
        let mut config: ContainerConfig = from_json(&row.config)?;
        let network = self.network(&endpoint.network).await?;
        check_mode(&config)?;
        if network.has_switch() {
            return Err(Error::SessionNetwork(network.name));
        }
        let running = self.container(&row.id.to_string()).await?.running;
        let mut endpoints = config.endpoints();
        match endpoints.iter_mut().find(|known| network.is_called(&known.network)) {
            Some(_) if running => {
                return Err(Error::EndpointExists { container: row.name, network: network.name });
            }
            Some(known) => *known = endpoint.clone(),
            None => endpoints.push(endpoint.clone()),
        }
        config.endpoints = Some(endpoints);
        if running {
            self.wire(&row, &config, endpoint, &network).await?;
        }
        if let Err(error) = self.catalog().update_config(row.id, &to_json(&config)?).await {
            if running {
                // What cannot be undone either says less than why it was to be.
                let _ = self.unwire(row.id, &network).await;
            }
            return Err(error);
        }
        Ok(network)
    }

    /// Takes a container off a network, at once if it runs.
    pub async fn disconnect_network(&self, key: &str, network: &str) -> Result<Network, Error> {
        let row = self.catalog().container(key).await?;
        let mut config: ContainerConfig = from_json(&row.config)?;
        let network = self.network(network).await?;
        let mut endpoints = config.endpoints();
        let before = endpoints.len();
        endpoints.retain(|known| !network.is_called(&known.network));
        if endpoints.len() == before {
            return Err(Error::NotConnected { container: row.id, network: network.name });
        }
        config.endpoints = Some(endpoints);
        self.catalog().update_config(row.id, &to_json(&config)?).await?;
        let running = self.container(&row.id.to_string()).await?.running;
        if running {
            self.unwire(row.id, &network).await?;
            let left = self.places(row.id, &config).await?;
            self.rewire(&row, &config, &left).await?;
        } else {
            self.catalog().release_address(row.id, network.id).await?;
            self.write_names(network.id).await?;
        }
        Ok(network)
    }

    /// Gives a running container an interface on a network. What was made is undone on failure.
    async fn wire(
        &self,
        row: &ContainerRow,
        config: &ContainerConfig,
        endpoint: EndpointConfig,
        network: &Network,
    ) -> Result<(), Error> {
        let address = self.allocate_address(row, config, &endpoint, network).await?;
        let (engine, place, id) = (self.clone(), Place::new(endpoint, network.clone(), address), row.id);
        let namespace = self.network_namespace(id).await?;
        let attached = blocking(move || {
            engine.ensure_bridge(&place.network)?;
            let interface = engine.driver().free_interface(namespace.as_fd())?;
            engine.attach(id, &place, (interface, false), None, namespace.as_fd())
        })
        .await;
        let result = match attached {
            Ok(()) => {
                let places = self.places(id, config).await?;
                self.rewire(row, config, &places).await
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            // As above.
            let _ = self.unwire(id, network).await;
        }
        result
    }

    /// Takes the interface on a network away, and the address.
    async fn unwire(&self, id: ContainerId, network: &Network) -> Result<(), Error> {
        let (engine, interface) = (self.clone(), IfName::endpoint(&id, &network.id));
        let switch = self.held_switch(network);
        blocking(move || engine.driver().detach(&interface, switch.as_deref())).await?;
        self.catalog().release_address(id, network.id).await?;
        self.write_names(network.id).await
    }

    /// Tells a running container where it is now: its /etc files, what its resolver knows, its default route, its ports.
    async fn rewire(
        &self,
        row: &ContainerRow,
        config: &ContainerConfig,
        places: &[Place],
    ) -> Result<(), Error> {
        let id = row.id;
        let dns = self.rewrite_etc_files(row, config, places)?;
        let namespace = self.network_namespace(id).await?;
        let gateway = places.iter().find(|place| place.leads_out).map(|place| place.network.gateway);
        let (engine, run_dir) = (self.clone(), self.run_dir(id));
        blocking(move || {
            if let Some(dns) = dns {
                Client::connect(&run_dir)?.resolve(&dns)?;
            }
            if let Some(gateway) = gateway {
                engine.driver().set_gateway(namespace.as_fd(), gateway)?;
            }
            Ok::<_, Error>(())
        })
        .await?;
        self.move_ports(id, places).await
    }

    /// Leads a container's ports to where it is now.
    async fn move_ports(&self, id: ContainerId, places: &[Place]) -> Result<(), Error> {
        let rows = self.catalog().ports(Some(id)).await?;
        let Some(&(_, before, _)) = rows.first() else { return Ok(()) };
        let ports: Vec<_> = rows.iter().map(|&(_, _, port)| port).collect();
        match places.iter().find(|place| place.leads_out) {
            Some(place) if place.address == before => Ok(()),
            Some(place) => self.publish_ports(id, &place.network, place.address, &ports).await,
            None => self.withdraw_ports(id).await,
        }
    }

    /// The network namespace of a running container.
    async fn network_namespace(&self, id: ContainerId) -> Result<OwnedFd, Error> {
        let run_dir = self.run_dir(id);
        let asked = blocking(move || Client::connect(&run_dir)?.namespaces()).await;
        let network = asked.map_err(|e| not_running(e, id))?.network;
        network.ok_or_else(|| not_running(ClientError::NotRunning, id))
    }
}

fn check_mode(config: &ContainerConfig) -> Result<(), Error> {
    match config.network {
        NetworkMode::None => Err(Error::NetworkConflict(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        )),
        NetworkMode::Host | NetworkMode::Container(_) => Err(Error::NetworkConflict(
            "container sharing network namespace with another container or host cannot be connected to any other \
             network",
        )),
        NetworkMode::Network { .. } => Ok(()),
    }
}
