mod config;
mod connect;
mod control;
mod end;
mod link;
mod place;
mod start;

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use engine_network::PublishedPort;
use engine_runtime::{ClientError, State, Status};
use engine_types::ContainerId;
use jiff::Timestamp;

use crate::catalog::{ContainerRow, from_json, to_json};
use crate::engine::{Engine, random};
use crate::error::{At, Error};
use crate::network::write_names;
use crate::ports::all_exposed;

pub use config::{
    ContainerConfig, DeviceMapping, EndpointConfig, HOST_GATEWAY, IpcMode, Link, Mount, MountKind,
    MountOptions, NamespaceMode, NetworkMode, Program,
};
pub(crate) use link::Linked;
pub(crate) use place::Place;

/// A container of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// As it was asked for.
    pub config: ContainerConfig,
    /// When it was made.
    pub created: Timestamp,
    /// What became of it; `None` before its first start.
    pub state: Option<State>,
    /// Whether it runs now.
    pub running: bool,
    /// The ports that are published, while it runs.
    pub ports: Vec<PublishedPort>,
    /// Its log file.
    pub log_path: PathBuf,
}

impl Container {
    /// Whether its processes are frozen.
    pub fn is_paused(&self) -> bool {
        self.running && self.state.as_ref().is_some_and(|state| state.paused)
    }
}

impl Engine {
    /// Makes a container; it does not run yet.
    pub async fn create_container(&self, mut config: ContainerConfig) -> Result<ContainerId, Error> {
        let bytes = random()?;
        let id = ContainerId::from_random(bytes);
        let name = config.name.clone().unwrap_or_else(|| crate::names::from_random(bytes));
        if !crate::names::is_valid(&name) {
            return Err(Error::InvalidName { what: "container", name });
        }
        // Held until the row names the image, so that nobody collects it in between.
        let _hold = self.images().hold()?;
        let image = self.images().get(config.image)?;
        config.exposed = all_exposed(&config, image.config.config.exposed_ports.keys())?;
        let row =
            ContainerRow { id, name: name.clone(), config: to_json(&config)?, created: Timestamp::now() };
        let inserted =
            self.catalog().insert_container(&row, &config.image.to_string(), config.session).await?;
        inserted.map_err(|holder| Error::NameInUse { what: "container", name, holder })?;
        let undo = async |error| {
            // What cannot be removed either has a row, and says less than why it was not made.
            let _ = self.remove_container(&id.to_string(), true).await;
            Err(error)
        };
        let state_dir = self.state_dir(id);
        for dir in [state_dir.join("upper"), state_dir.join("work"), self.run_dir(id)] {
            if let Err(error) = fs::create_dir_all(&dir).at(&dir) {
                return undo(error).await;
            }
        }
        Ok(id)
    }

    /// Gives a container another name.
    pub async fn rename_container(&self, key: &str, name: &str) -> Result<(), Error> {
        if !crate::names::is_valid(name) {
            return Err(Error::InvalidName { what: "container", name: name.to_owned() });
        }
        let row = self.catalog().container(key).await?;
        let renamed = self.catalog().rename_container(&row, name).await?;
        let in_use = |holder| Error::NameInUse { what: "container", name: name.to_owned(), holder };
        for network in renamed.map_err(in_use)? {
            self.write_names(network).await?;
        }
        Ok(())
    }

    /// Finds a container by id, name or id prefix.
    pub async fn container(&self, key: &str) -> Result<Container, Error> {
        let row = self.catalog().container(key).await?;
        self.inspect(&row, self.catalog().ports(Some(row.id)).await?)
    }

    /// All containers, newest first.
    pub async fn containers(&self) -> Result<Vec<Container>, Error> {
        let mut ports: HashMap<ContainerId, Vec<_>> = HashMap::new();
        for entry in self.catalog().ports(None).await? {
            ports.entry(entry.0).or_default().push(entry);
        }
        let rows = self.catalog().containers().await?;
        rows.iter().map(|row| self.inspect(row, ports.remove(&row.id).unwrap_or_default())).collect()
    }

    /// The root directory of a running container, through which its files are reached as it sees them. Resolve paths
    /// below it with `openat2` and `RESOLVE_IN_ROOT` only: links in it are the container's.
    pub async fn container_root(&self, id: ContainerId) -> Result<OwnedFd, Error> {
        let state = State::load(&self.state_dir(id))?;
        let pid = state.and_then(|s| s.pid).filter(|_| self.is_running(id).unwrap_or(false));
        let pid = pid.ok_or_else(|| Error::NotRunning(id.short()))?;
        let path = self.paths().proc_file(format!("{pid}/root"));
        use rustix::fs::{Mode, OFlags};
        rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at(&path)
    }

    fn inspect(
        &self,
        row: &ContainerRow,
        ports: Vec<(ContainerId, Ipv4Addr, PublishedPort)>,
    ) -> Result<Container, Error> {
        let alive = self.is_running(row.id)?;
        let state = State::load(&self.state_dir(row.id))?;
        // One that was killed has left the others.
        let ports = ports.into_iter().filter(|_| alive).map(|(_, _, port)| port).collect();
        Ok(Container {
            id: row.id,
            name: row.name.clone(),
            config: from_json(&row.config)?,
            created: row.created,
            // Its supervisor outlives it for a moment, and is there before it.
            running: alive && state.as_ref().is_some_and(|s| s.status != Status::Exited),
            state,
            ports,
            log_path: self.log_path(row.id),
        })
    }

    pub(crate) fn is_running(&self, id: ContainerId) -> Result<bool, Error> {
        let run_dir = self.run_dir(id);
        engine_runtime::is_alive(&run_dir).at(run_dir)
    }

    pub(crate) fn log_path(&self, id: ContainerId) -> PathBuf {
        self.state_dir(id).join("log.json")
    }

    pub(crate) async fn write_names(&self, network: engine_types::NetworkId) -> Result<(), Error> {
        let names = self.catalog().names(network).await?;
        let path = self.names_file(network);
        write_names(&path, &names).at(&path)
    }
}

fn not_running(error: ClientError, id: ContainerId) -> Error {
    match error {
        ClientError::NotRunning => Error::NotRunning(id.short()),
        other => other.into(),
    }
}
