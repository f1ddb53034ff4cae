//! What a container is told to be otherwise while it is there: frozen, limited.

use engine_runtime::spec::Resources;
use engine_runtime::{Client, ClientError, Hierarchies, Meter, RestartPolicy};
use engine_types::ContainerId;

use super::{ContainerConfig, not_running};
use crate::catalog::{from_json, to_json};
use crate::engine::{Engine, blocking};
use crate::error::{At, Error};

impl Engine {
    /// Freezes every process of a running container. Signals to it let them go on.
    pub async fn pause_container(&self, key: &str) -> Result<(), Error> {
        let container = self.container(key).await?;
        if container.running && container.is_paused() {
            return Err(Error::Paused(container.id.to_string()));
        }
        self.ask(container.id, Client::pause).await
    }

    /// Lets the processes of a frozen container go on.
    pub async fn unpause_container(&self, key: &str) -> Result<(), Error> {
        let container = self.container(key).await?;
        if container.running && !container.is_paused() {
            return Err(Error::NotPaused(container.id.to_string()));
        }
        self.ask(container.id, Client::unpause).await
    }

    /// Sets the limits that are given, and the restart policy if it is, from now on.
    pub async fn update_container(
        &self,
        key: &str,
        limits: &Resources,
        restart: Option<RestartPolicy>,
    ) -> Result<(), Error> {
        let row = self.catalog().container(key).await?;
        let mut config: ContainerConfig = from_json(&row.config)?;
        if restart.is_some_and(|policy| policy != RestartPolicy::No) && config.auto_remove {
            return Err(Error::UpdateOfRemoved);
        }
        config.restart = restart.unwrap_or(config.restart);
        config.resources = merge(&config.resources, limits)?;
        let (resources, restart) = (config.resources.clone(), config.restart);
        match self.ask(row.id, move |client| client.update(&resources, restart)).await {
            Ok(()) | Err(Error::NotRunning(_)) => {}
            Err(error) => return Err(error),
        }
        self.catalog().update_config(row.id, &to_json(&config)?).await
    }

    /// Takes away the limits that this host cannot set and Docker does without; what it says of each.
    pub fn discard_limits(&self, resources: &mut Resources) -> Result<Vec<String>, Error> {
        let hierarchies = Hierarchies::detect(self.paths()).at(&self.paths().cgroup)?;
        Ok(hierarchies.discard(resources))
    }

    /// What counts what a container uses.
    pub fn meter(&self, id: ContainerId) -> Result<Meter, Error> {
        let path = &self.paths().cgroup;
        let hierarchies = Hierarchies::detect(self.paths()).at(path)?;
        Ok(Meter::new(&hierarchies, &self.cgroup_parent(), &id.to_string()))
    }

    async fn ask(
        &self,
        id: ContainerId,
        request: impl FnOnce(&Client) -> Result<(), ClientError> + Send + 'static,
    ) -> Result<(), Error> {
        let run_dir = self.run_dir(id);
        blocking(move || request(&Client::connect(&run_dir)?)).await.map_err(|e| not_running(e, id))
    }
}

/// The limits that are to hold where some are set anew.
fn merge(old: &Resources, new: &Resources) -> Result<Resources, Error> {
    // Memory alone had as much swap again, which stays as it is.
    let swap_before = old.memory_swap.or(old.memory.map(|memory| memory.saturating_mul(2)));
    if let (Some(memory), Some(swap), None) = (new.memory, swap_before, new.memory_swap)
        && memory > swap
    {
        return Err(Error::MemoryOverSwap);
    }
    let memory = new.memory.or(old.memory);
    Ok(Resources {
        memory,
        memory_swap: new.memory_swap.or(swap_before),
        nano_cpus: new.nano_cpus.or(old.nano_cpus),
        cpu_shares: new.cpu_shares.or(old.cpu_shares),
        cpuset_cpus: new.cpuset_cpus.clone().or_else(|| old.cpuset_cpus.clone()),
        pids: new.pids.or(old.pids),
        ..old.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_past_its_swap_only_together_with_it() {
        let old = Resources { memory: Some(100), pids: Some(5), ..Resources::default() };
        let new = Resources { memory: Some(300), ..Resources::default() };
        assert!(matches!(merge(&old, &new), Err(Error::MemoryOverSwap)));
        let merged = merge(&old, &Resources { memory_swap: Some(400), ..new }).unwrap();
        assert_eq!((merged.memory, merged.memory_swap, merged.pids), (Some(300), Some(400), Some(5)));
        let less = merge(&old, &Resources { memory: Some(50), ..Resources::default() }).unwrap();
        assert_eq!((less.memory, less.memory_swap), (Some(50), Some(200)));
    }
}
