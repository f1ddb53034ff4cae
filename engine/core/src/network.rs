use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine_network::{BridgeSpec, DEFAULT_POOLS, Ipv4Net, SubnetPool, Switch};
use engine_runtime::Client;
use engine_runtime::dns::Names;
use engine_types::{ContainerId, NetworkId, SessionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::{NetworkRow, from_json, to_json};
use crate::engine::{Engine, blocking, random};
use crate::error::Error;
use crate::session::remove_dir;

/// The network of containers that ask for none in particular, and of builds.
const DEFAULT_NAME: &str = "bridge";
/// Where the short-lived networks of sessions are: many small ones, at the far end of Docker's own range, so that a
/// busy CI machine runs out of neither; and, where Docker's networks have got that far, out of it.
const SESSION_POOLS: [SubnetPool; 3] = [
    SubnetPool { base: Ipv4Net::new_assert(Ipv4Addr::new(172, 30, 0, 0), 16), size: 26 },
    SubnetPool { base: Ipv4Net::new_assert(Ipv4Addr::new(172, 31, 0, 0), 16), size: 26 },
    SubnetPool { base: Ipv4Net::new_assert(Ipv4Addr::new(10, 214, 0, 0), 15), size: 26 },
];
/// How often a name or subnet that another process takes at the same moment is tried anew.
const ATTEMPTS: u32 = 64;

/// Tells apart what this process writes aside.
static ASIDE: AtomicU64 = AtomicU64::new(0);

/// What a network is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Its name; unique.
    pub name: String,
    /// No way out of it.
    pub internal: bool,
    /// Its containers may reach the host's own services and link-local addresses.
    pub host_access: bool,
    /// Its addresses; a free range if absent.
    #[serde(default)]
    pub subnet: Option<Ipv4Net>,
    /// The host's address on it; the first if absent.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Containers that ask for no address get one of these.
    #[serde(default)]
    pub range: Option<Ipv4Net>,
    /// Addresses that no container gets, by what has them.
    #[serde(default)]
    pub reserved: BTreeMap<String, Ipv4Addr>,
    /// Its containers may not reach each other.
    #[serde(default)]
    pub isolated: bool,
    /// What its containers send outside carries their own addresses.
    #[serde(default)]
    pub unmasked: bool,
    /// The largest packet in bytes; as the host's interface to the world if absent.
    #[serde(default)]
    pub mtu: Option<u32>,
    /// Where ports are published that ask for no address of the host; everywhere if absent.
    #[serde(default)]
    pub host_ip: Option<Ipv4Addr>,
    /// What its maker wants to show again; nothing here reads it.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// The same.
    #[serde(default)]
    pub attachable: bool,
    /// Free text for tools.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
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
    /// When it was made.
    pub created: Timestamp,
}

impl Engine {
    /// The network called `bridge`, made on first use.
    pub async fn default_network(&self) -> Result<Network, Error> {
        let (subnet, gateway) = self.settings().bridge.unzip();
        match self.network(DEFAULT_NAME).await {
            Err(Error::NoSuchNetwork(_)) => {}
            // It was made with other addresses: it is made anew, unless somebody is on it.
            Ok(network) if subnet.is_some_and(|subnet| subnet != network.subnet) => {
                match self.remove_network(DEFAULT_NAME).await {
                    Ok(()) | Err(Error::NoSuchNetwork(_)) => {}
                    Err(Error::NetworkInUse { .. }) => return Ok(network),
                    Err(error) => return Err(error),
                }
            }
            other => return other,
        }
        let config = NetworkConfig {
            name: DEFAULT_NAME.to_owned(),
            host_access: true,
            subnet,
            gateway,
            ..NetworkConfig::default()
        };
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

    /// All networks, oldest first.
    pub async fn networks(&self) -> Result<Vec<Network>, Error> {
        self.catalog().networks().await?.iter().map(Network::from_row).collect()
    }

    /// Where the containers of a network are on it, as far as they have been started.
    pub async fn network_members(&self, network: &Network) -> Result<Vec<(ContainerId, Ipv4Addr)>, Error> {
        let mut members = Vec::new();
        for member in self.catalog().members(network.id).await? {
            let addresses = self.catalog().addresses_of(member).await?;
            members
                .extend(addresses.into_iter().filter(|(id, _)| *id == network.id).map(|(_, a)| (member, a)));
        }
        Ok(members)
    }

    /// A container's address on each network that it has been started on.
    pub async fn addresses(&self, id: ContainerId) -> Result<Vec<(NetworkId, Ipv4Addr)>, Error> {
        self.catalog().addresses_of(id).await
    }

    /// Removes a network; none of its containers may run.
    pub async fn remove_network(&self, key: &str) -> Result<(), Error> {
        let network = self.network(key).await?;
        for member in self.catalog().members(network.id).await? {
            let container = self.container(&member.to_string()).await?;
            if container.running {
                return Err(Error::NetworkInUse { network: network.name, container: container.name });
            }
        }
        self.catalog().release_network(network.id).await?;
        self.remove_bridge(&network).await?;
        self.forget_network(&network).await
    }

    async fn remove_bridge(&self, network: &Network) -> Result<(), Error> {
        let (engine, network) = (self.clone(), network.clone());
        blocking(move || {
            let spec = engine.bridge_spec(&network);
            if network.has_switch() {
                let switch = engine.switches().take(network.id);
                Ok(engine.driver().remove_switch(&spec, switch)?)
            } else {
                Ok(engine.driver().remove_bridge(&spec)?)
            }
        })
        .await
    }

    async fn forget_network(&self, network: &Network) -> Result<(), Error> {
        if let Some(dir) = self.names_file(network.id).parent() {
            remove_dir(dir)?;
        }
        self.catalog().delete_network(network.id).await
    }

    /// Makes the network's bridge unless it is there; its switch, where it has one.
    pub(crate) fn ensure_bridge(&self, network: &Network) -> Result<Option<Arc<Switch>>, Error> {
        let spec = self.bridge_spec(network);
        if network.has_switch() {
            let place = self.switches().place(network.id);
            let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
            if place.is_none() {
                *place = Some(Arc::new(self.driver().make_switch(&spec)?));
            }
            return Ok(place.clone());
        }
        if !self.driver().is_ready(&spec)? {
            self.driver().ensure_bridge(&spec)?;
        }
        Ok(None)
    }

    /// Gets hold of a network's switch, if another process made it and a container keeps it.
    pub(crate) async fn adopt_switch(&self, network: &Network) -> Result<(), Error> {
        if !network.has_switch() || self.switches().is_held(network.id) {
            return Ok(());
        }
        let members = self.catalog().members(network.id).await?;
        let (engine, id) = (self.clone(), network.id);
        blocking(move || {
            let held = members.iter().find_map(|&member| {
                let client = Client::connect(&engine.run_dir(member));
                // One that does not run, or ends just now, keeps nothing.
                client.and_then(|client| client.held()).ok().flatten()
            });
            if let Some(held) = held {
                let place = engine.switches().place(id);
                let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
                place.get_or_insert_with(|| Arc::new(Switch::from_descriptor(held)));
            }
        })
        .await;
        Ok(())
    }

    pub(crate) fn bridge_spec(&self, network: &Network) -> BridgeSpec {
        BridgeSpec {
            id: network.id,
            name: self.driver().bridge_name(&network.id),
            subnet: network.subnet,
            gateway: network.gateway,
            internal: network.config.internal,
            icc: !network.config.isolated,
            masquerade: !network.config.unmasked,
            mtu: network.config.mtu,
            host_access: network.config.host_access,
        }
    }

    async fn free_subnet(
        &self,
        pools: Vec<SubnetPool>,
        taken: Vec<Ipv4Net>,
        start: usize,
    ) -> Result<Ipv4Net, Error> {
        let (engine, resolvers) = (self.clone(), self.resolv_conf()?.nameservers);
        let found = blocking(move || {
            let resolvers: Vec<Ipv4Addr> = resolvers
                .iter()
                .filter_map(|server| if let IpAddr::V4(v4) = server { Some(*v4) } else { None })
                .collect();
            engine.driver().free_subnet(&pools, &taken, &resolvers, start)
        });
        Ok(found.await?)
    }

    /// A network's switch, if this process holds it.
    pub(crate) fn held_switch(&self, network: &Network) -> Option<Arc<Switch>> {
        let place = self.switches().place(network.id);
        place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a network on the subnet that is asked for, or one that nothing on this machine uses. Its bridge
    /// is made with its first container.
    pub async fn create_network(&self, config: NetworkConfig) -> Result<Network, Error> {
        let bytes = random()?;
        let id = NetworkId::from_random(bytes);
        let own = &self.settings().pools;
        let (pools, start): (Vec<SubnetPool>, _) = match config.session {
            Some(_) => (SESSION_POOLS.into(), usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]))),
            None if own.is_empty() => (DEFAULT_POOLS.into(), 0),
            None => (own.clone(), 0),
        };
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            let taken = self.catalog().networks().await?;
            if let Some(holder) = taken.iter().find(|row| row.name == config.name) {
                let holder = holder.id.to_string();
                return Err(Error::NameInUse { what: "network", name: config.name, holder });
            }
            let subnets = taken.iter().map(parse_subnet).collect::<Result<Vec<_>, _>>()?;
            let subnet = match config.subnet {
                Some(asked) if subnets.iter().any(|other| overlap(other, &asked)) => {
                    return Err(Error::PoolOverlap);
                }
                Some(asked) => asked,
                None => self.free_subnet(pools.clone(), subnets, start).await?,
            };
            let row = NetworkRow {
                id,
                name: config.name.clone(),
                subnet: subnet.to_string(),
                config: to_json(&config)?,
                created: Timestamp::now(),
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

fn overlap(one: &Ipv4Net, other: &Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// The switches that this process holds. Containers hold copies: what is here only spares asking them.
#[derive(Debug, Default)]
pub(crate) struct Switches(Mutex<HashMap<NetworkId, Place>>);

/// Locked while the switch is being made.
type Place = Arc<Mutex<Option<Arc<Switch>>>>;

impl Switches {
    fn place(&self, id: NetworkId) -> Place {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(places.entry(id).or_default())
    }

    fn is_held(&self, id: NetworkId) -> bool {
        self.place(id).lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take(&self, id: NetworkId) -> Option<Arc<Switch>> {
        let place = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)?;
        place.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Network {
    /// Whether its bridge is in a namespace of its own: a session's networks come and go by the minute.
    pub(crate) fn has_switch(&self) -> bool {
        self.config.session.is_some()
    }

    /// Whether it is the network of containers that ask for none in particular.
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_NAME
    }

    /// Whether a container names it so.
    pub fn is_called(&self, key: &str) -> bool {
        key == self.name || key == self.id.to_string()
    }

    /// The addresses for containers that ask for none.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = Ipv4Addr> + use<'_> {
        let range = self.config.range.unwrap_or(self.subnet);
        let is_free = |address: &Ipv4Addr| {
            *address != self.gateway && !self.config.reserved.values().any(|other| other == address)
        };
        let hosts = self.subnet;
        range.hosts().filter(is_free).filter(move |address| {
            hosts.prefix_len() >= 31 || (*address != hosts.network() && *address != hosts.broadcast())
        })
    }

    fn from_row(row: &NetworkRow) -> Result<Self, Error> {
        let subnet = parse_subnet(row)?;
        let config: NetworkConfig = from_json(&row.config)?;
        let first = subnet.hosts().next().ok_or_else(|| Error::Damaged(row.subnet.clone()))?;
        let gateway = config.gateway.unwrap_or(first);
        Ok(Self { id: row.id, name: row.name.clone(), subnet, gateway, config, created: row.created })
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
    // Several tasks of one process write the same file at once.
    let number = ASIDE.fetch_add(1, Ordering::Relaxed);
    let aside = path.with_extension(format!("{}-{number}.new", std::process::id()));
    fs::write(&aside, all.to_string())?;
    fs::rename(aside, path)
}
