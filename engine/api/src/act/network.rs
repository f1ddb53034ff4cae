use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use engine::{EventKind, Network, NetworkConfig, Volume};
use engine_types::ContainerId;

use super::Daemon;
use crate::error::ApiError;

/// Networks that every engine has and nobody removes.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

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

    async fn record_network(&self, action: &str, network: &Network) -> Result<(), ApiError> {
        let attributes = [("name", network.name.as_str()), ("type", "bridge")];
        self.record(EventKind::Network, action, &network.id.to_string(), &attributes).await
    }

    /// The containers that run on a network.
    pub(crate) async fn members(
        &self,
        network: &Network,
    ) -> Result<Vec<(ContainerId, String, Ipv4Addr)>, ApiError> {
        let mut members = Vec::new();
        for (id, address) in self.engine().network_members(network).await? {
            let container = self.engine().container(&id.to_string()).await?;
            if container.running {
                members.push((id, container.name, address));
            }
        }
        Ok(members)
    }

    /// Makes a volume, unless there is one of that name; a name is made up if it is empty.
    pub(crate) async fn create_volume(
        &self,
        name: &str,
        mut labels: BTreeMap<String, String>,
    ) -> Result<Volume, ApiError> {
        let name = if name.is_empty() {
            labels.insert(super::container::ANONYMOUS_LABEL.to_owned(), String::new());
            ContainerId::from_random(super::random()?).to_string()
        } else {
            name.to_owned()
        };
        if self.engine().create_labelled_volume(&name, &labels).await? {
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
