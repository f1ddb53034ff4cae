use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use engine_network::{BridgeSpec, DEFAULT_POOLS, Ipv4Net, SubnetPool};
use engine_runtime::dns::Names;
use engine_types::{ContainerId, NetworkId, SessionId};
use serde::{Deserialize, Serialize};

use crate::catalog::{NetworkRow, from_json, to_json};
use crate::engine::{Engine, blocking, random};
use crate::error::Error;
use crate::session::remove_dir;

/// The network of containers that ask for none in particular, and of builds.
const DEFAULT_NAME: &str = "bridge";
/// Where the short-lived networks of sessions are: many small ones, at the far end of Docker's own range, so that a
/// busy CI machine runs out of neither.
const SESSION_POOLS: [SubnetPool; 2] = [
    SubnetPool { base: Ipv4Net::new_assert(Ipv4Addr::new(172, 30, 0, 0), 16), size: 26 },
    SubnetPool { base: Ipv4Net::new_assert(Ipv4Addr::new(172, 31, 0, 0), 16), size: 26 },
];
/// How often a name or subnet that another process takes at the same moment is tried anew.
const ATTEMPTS: u32 = 64;

/// What a network is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Its name; unique.
    pub name: String,
    /// No way out of it.
    pub internal: bool,
    /// Its containers may reach the host's own services and link-local addresses.
    pub host_access: bool,
    /// Goes with this session.
    pub session: Option<SessionId>,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub subnet: Ipv4Net,
    /// The host's address on it.
    pub gateway: Ipv4Addr,
    /// As it was asked for.
    pub config: NetworkConfig,
}

impl Engine {
    /// The network called `bridge`, made on first use.
    pub async fn default_network(&self) -> Result<Network, Error> {
        match self.network(DEFAULT_NAME).await {
            Err(Error::NoSuchNetwork(_)) => {}
            other => return other,
        }
        let config =
            NetworkConfig { name: DEFAULT_NAME.to_owned(), host_access: true, ..NetworkConfig::default() };
        match self.create_network(config).await {
            Err(Error::NameInUse { .. }) => self.network(DEFAULT_NAME).await,
            other => other,
        }
    }

    /// Finds a network by id or name.
    pub async fn network(&self, key: &str) -> Result<Network, Error> {
        let row = self.catalog().network(key).await?.ok_or_else(|| Error::NoSuchNetwork(key.to_owned()))?;
        Network::from_row(&row)
    }

    /// Removes a network; none of its containers may run.
    pub async fn remove_network(&self, key: &str) -> Result<(), Error> {
        let network = self.network(key).await?;
        self.remove_bridge(&network).await?;
        self.forget_network(&network).await
    }

    /// Removes containers, running or not, together with the network that they alone are on. The kernel takes tens of
    /// milliseconds to delete a bridge, so it does that while the containers go. Goes on past failures; returns the
    /// first.
    pub async fn remove_with_network(
        &self,
        containers: &[ContainerId],
        network: &Network,
    ) -> Result<(), Error> {
        let mut removals = tokio::task::JoinSet::new();
        for container in containers {
            let (engine, container) = (self.clone(), container.to_string());
            removals.spawn(async move { engine.remove_container(&container, true).await });
        }
        let (removed, bridge) = tokio::join!(removals.join_all(), self.remove_bridge(network));
        removed.into_iter().collect::<Result<(), Error>>()?;
        bridge?;
        self.forget_network(network).await
    }

    async fn remove_bridge(&self, network: &Network) -> Result<(), Error> {
        let (engine, spec) = (self.clone(), self.bridge_spec(network));
        Ok(blocking(move || engine.driver().remove_bridge(&spec)).await?)
    }

    async fn forget_network(&self, network: &Network) -> Result<(), Error> {
        if let Some(dir) = self.names_file(network.id).parent() {
            remove_dir(dir)?;
        }
        self.catalog().delete_network(network.id).await
    }

    /// Makes the network's bridge unless it is there.
    pub(crate) fn ensure_bridge(&self, network: &Network) -> Result<(), Error> {
        let spec = self.bridge_spec(network);
        if !self.driver().is_ready(&spec)? {
            self.driver().ensure_bridge(&spec)?;
        }
        Ok(())
    }

    pub(crate) fn bridge_spec(&self, network: &Network) -> BridgeSpec {
        BridgeSpec {
            id: network.id,
            name: self.driver().bridge_name(&network.id),
            subnet: network.subnet,
            gateway: network.gateway,
            internal: network.config.internal,
            icc: true,
            mtu: None,
            host_access: network.config.host_access,
        }
    }

    /// Makes a network on a subnet that nothing on this machine uses. Its bridge is made with its first container.
    pub async fn create_network(&self, config: NetworkConfig) -> Result<Network, Error> {
        let id = NetworkId::from_random(random()?);
        let pools: &'static [SubnetPool] =
            if config.session.is_some() { &SESSION_POOLS } else { &DEFAULT_POOLS };
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            let taken = self.catalog().networks().await?;
            if let Some(holder) = taken.iter().find(|row| row.name == config.name) {
                let holder = holder.id.to_string();
                return Err(Error::NameInUse { what: "network", name: config.name, holder });
            }
            let subnets = taken.iter().map(parse_subnet).collect::<Result<Vec<_>, _>>()?;
            let engine = self.clone();
            let resolvers = self.resolv_conf()?.nameservers;
            let subnet = blocking(move || {
                let resolvers: Vec<Ipv4Addr> = resolvers
                    .iter()
                    .filter_map(|server| if let IpAddr::V4(v4) = server { Some(*v4) } else { None })
                    .collect();
                engine.driver().free_subnet(pools, &subnets, &resolvers)
            })
            .await?;
            let row = NetworkRow {
                id,
                name: config.name.clone(),
                subnet: subnet.to_string(),
                config: to_json(&config)?,
            };
            if self.catalog().insert_network(&row, config.session).await? {
                return Network::from_row(&row);
            }
            result =
                Err(Error::NameInUse { what: "network", name: config.name.clone(), holder: String::new() });
        }
        result.and_then(|()| Err(Error::NoSuchNetwork(config.name)))
    }
}

impl Network {
    fn from_row(row: &NetworkRow) -> Result<Self, Error> {
        let subnet = parse_subnet(row)?;
        let gateway = subnet.hosts().next().ok_or_else(|| Error::Damaged(row.subnet.clone()))?;
        Ok(Self { id: row.id, name: row.name.clone(), subnet, gateway, config: from_json(&row.config)? })
    }
}

fn parse_subnet(row: &NetworkRow) -> Result<Ipv4Net, Error> {
    Ipv4Net::from_str(&row.subnet).map_err(|_| Error::Damaged(row.subnet.clone()))
}

/// Writes the file that the DNS responders of a network read, aside and renamed.
pub(crate) fn write_names(path: &std::path::Path, names: &[(String, Ipv4Addr)]) -> std::io::Result<()> {
    let mut all = Names::default();
    for (name, address) in names {
        all.insert(name, *address);
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&aside, all.to_string())?;
    fs::rename(aside, path)
}
