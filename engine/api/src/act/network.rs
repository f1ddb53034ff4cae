use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use engine::{EndpointConfig, Error, EventKind, Network, NetworkConfig, Volume};
use engine_types::ContainerId;

use super::Daemon;
use crate::error::ApiError;
use crate::parse::{Endpoint, check_default, wrong_endpoint};

/// Networks that every engine has and nobody removes.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// A container that runs on a network.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    /// Its hardware address, if it asked for one.
    pub(crate) mac: Option<[u8; 6]>,
}

impl Daemon {
    pub(crate) async fn create_network(&self, config: NetworkConfig) -> Result<Network, ApiError> {
        if PREDEFINED.contains(&config.name.as_str()) {
            let text = format!("operation is not permitted on predefined {} network", config.name);
            return Err(ApiError::Forbidden(text));
        }
        let network = self.engine().create_network(config).await?;
        self.record_network("create", &network).await?;
        Ok(network)
    }

    pub(crate) async fn remove_network(&self, key: &str) -> Result<(), ApiError> {
        if PREDEFINED.contains(&key) {
            return Err(ApiError::Forbidden(format!("{key} is a pre-defined network and cannot be removed")));
        }
        let network = self.engine().network(key).await?;
        self.engine().remove_network(&network.id.to_string()).await?;
        self.record_network("destroy", &network).await
    }

    /// Puts a container on a network.
    pub(crate) async fn connect(
        &self,
        network: &str,
        container: &str,
        endpoint: Endpoint,
    ) -> Result<(), ApiError> {
        let id = self.engine().container(container).await?.id;
        let network = self.real_network(network).await?;
        let endpoint = endpoint.on(&network.name)?;
        check_default(&endpoint)?;
        check_address(&endpoint, &network)?;
        self.engine().connect_network(&id.to_string(), endpoint).await?;
        self.record_connection("connect", &network, id).await
    }

    /// Takes a container off a network; with `force` one that is not there is as good.
    pub(crate) async fn disconnect(
        &self,
        network: &str,
        container: &str,
        force: bool,
    ) -> Result<(), ApiError> {
        let network = self.real_network(network).await?;
        let id = match self.engine().container(container).await {
            Err(Error::NoSuchContainer(_)) if force => return Ok(()),
            result => result?.id,
        };
        self.engine().disconnect_network(&id.to_string(), &network.id.to_string()).await?;
        self.record_connection("disconnect", &network, id).await
    }

    /// A network that containers come to and leave.
    pub(super) async fn real_network(&self, key: &str) -> Result<Network, ApiError> {
        match key {
            "bridge" | "default" => Ok(self.engine().default_network().await?),
            "host" => Err(ApiError::Invalid(
                "container cannot be disconnected from host network or connected to host network".to_owned(),
            )),
            "none" => Err(ApiError::Invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                    .to_owned(),
            )),
            _ => Ok(self.engine().network(key).await?),
        }
    }

    async fn record_connection(
        &self,
        action: &str,
        network: &Network,
        container: ContainerId,
    ) -> Result<(), ApiError> {
        let container = container.to_string();
        let attributes =
            [("container", container.as_str()), ("name", network.name.as_str()), ("type", "bridge")];
        self.record(EventKind::Network, action, &network.id.to_string(), &attributes).await
    }

    async fn record_network(&self, action: &str, network: &Network) -> Result<(), ApiError> {
        let attributes = [("name", network.name.as_str()), ("type", "bridge")];
        self.record(EventKind::Network, action, &network.id.to_string(), &attributes).await
    }

    /// The containers that run on a network.
    pub(crate) async fn members(&self, network: &Network) -> Result<Vec<Member>, ApiError> {
        let mut members = Vec::new();
        for (id, address) in self.engine().network_members(network).await? {
            let container = self.engine().container(&id.to_string()).await?;
            let mut endpoints = container.config.endpoints().into_iter();
            let endpoint = endpoints.find(|endpoint| network.is_called(&endpoint.network));
            if container.running {
                let mac = endpoint.and_then(|endpoint| endpoint.mac);
                members.push(Member { id, name: container.name, address, mac });
            }
        }
        Ok(members)
    }

    /// Makes a volume, unless there is one of that name; a name is made up if it is empty.
    pub(crate) async fn create_volume(
        &self,
        name: &str,
        mut labels: BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<Volume, ApiError> {
        let name = if name.is_empty() {
            labels.insert(super::container::ANONYMOUS_LABEL.to_owned(), String::new());
            ContainerId::from_random(super::random()?).to_string()
        } else {
            name.to_owned()
        };
        if self.engine().create_volume_with(&name, &labels, options).await? {
            self.record(EventKind::Volume, "create", &name, &[("driver", "local")]).await?;
        }
        Ok(self.engine().volume(&name).await?)
    }

    /// Removes a volume; with `force` one that is not there is as good.
    pub(crate) async fn remove_volume(&self, name: &str, force: bool) -> Result<(), ApiError> {
        match self.engine().remove_unused_volume(name).await {
            Err(engine::Error::NoSuchVolume(_)) if force => return Ok(()),
            result => result?,
        }
        self.record(EventKind::Volume, "destroy", name, &[("driver", "local")]).await
    }
}

/// An address that is asked for has to be one of the network's.
pub(super) fn check_address(endpoint: &EndpointConfig, network: &Network) -> Result<(), ApiError> {
    match endpoint.address {
        Some(address) if !network.subnet.contains(&address) => {
            let text = format!("no configured subnet or ip-range contain the IP address {address}");
            Err(wrong_endpoint(&network.name, &text))
        }
        _ => Ok(()),
    }
}
