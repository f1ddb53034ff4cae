//! How a container ends and goes.

use std::time::Duration;

use engine_runtime::{Claim, Client, ClientError, State, Status};
use engine_types::ContainerId;

use super::{ContainerConfig, not_running};
use crate::catalog::{ContainerRow, from_json};
use crate::engine::{Engine, blocking};
use crate::error::{At, Error};
use crate::process::{End, Follow};
use crate::session::remove_dir;

/// How long a killed container may take to be gone; the kernel needs milliseconds unless its disk hangs.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a supervisor may take to be gone after it has recorded its container's end.
const SUPERVISOR_END: Duration = Duration::from_secs(1);
/// The pause before a supervisor that is on its way out is looked at again: it begins so and doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

impl Engine {
    /// Sends a signal to a container's first process.
    pub async fn kill_container(&self, key: &str, signal: i32) -> Result<(), Error> {
        let id = self.catalog().container(key).await?.id;
        let run_dir = self.run_dir(id);
        blocking(move || Client::connect(&run_dir)?.signal(signal)).await.map_err(|e| not_running(e, id))
    }

    /// Stops a container: its stop signal, and KILL if it has not ended within `grace`. One that does not run is as good.
    /// It is not restarted then, whatever its policy.
    pub async fn stop_container(&self, key: &str, grace: Duration) -> Result<(), Error> {
        let signal = self.stop_signal(key).await?;
        self.stop_container_with(key, signal, grace).await
    }

    /// Stops a container as [`Engine::stop_container`], with another signal than its own.
    pub async fn stop_container_with(&self, key: &str, signal: i32, grace: Duration) -> Result<(), Error> {
        let run_dir = self.run_dir(self.catalog().container(key).await?.id);
        match blocking(move || Client::connect(&run_dir)?.stop(signal)).await {
            Err(ClientError::NotRunning) => return Ok(()),
            result => result?,
        }
        if tokio::time::timeout(grace, self.wait_container(key)).await.is_err() {
            self.kill_and_wait(key).await?;
        }
        Ok(())
    }

    /// Waits for the end of a container; its last exit code at once if it does not run.
    pub async fn wait_container(&self, key: &str) -> Result<Option<i32>, Error> {
        let id = self.catalog().container(key).await?.id;
        let exit = match self.end(id).await? {
            Some(end) => end.wait().await.at(self.run_dir(id))?,
            None => None,
        };
        match exit {
            Some(exit) => Ok(Some(exit.code)),
            None => Ok(State::load(&self.state_dir(id))?.and_then(|s| s.exit_code)),
        }
    }

    /// What tells of a container's end; `None` if it does not run.
    pub async fn end(&self, id: ContainerId) -> Result<Option<End>, Error> {
        let run_dir = self.run_dir(id);
        match blocking(move || Client::connect(&run_dir)?.waiting()).await {
            Ok(waiting) => End::new(waiting).at(self.run_dir(id)).map(Some),
            Err(ClientError::NotRunning) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// What tells of all that happens to a container from now on; `None` if it does not run.
    pub async fn follow(&self, id: ContainerId) -> Result<Option<Follow>, Error> {
        let run_dir = self.run_dir(id);
        match blocking(move || Client::connect(&run_dir)?.follow()).await {
            Ok(following) => Follow::new(following).at(self.run_dir(id)).map(Some),
            Err(ClientError::NotRunning) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    async fn stop_signal(&self, key: &str) -> Result<i32, Error> {
        let config: ContainerConfig = from_json(&self.catalog().container(key).await?.config)?;
        let name = match config.stop_signal {
            Some(name) => Some(name),
            None => self.images().get(config.image)?.config.config.stop_signal,
        };
        let number = name.and_then(|name| crate::signal_number(&name));
        Ok(number.unwrap_or(rustix::process::Signal::TERM.as_raw()))
    }

    /// Removes a container with its writable layer and log; kills it first if it runs and `force` is set.
    pub async fn remove_container(&self, key: &str, force: bool) -> Result<(), Error> {
        let row = self.catalog().container(key).await?;
        let id = row.id;
        let run_dir = self.run_dir(id);
        let claim = engine_runtime::claim(&run_dir).at(&run_dir)?;
        let _claim = match claim {
            Some(claim) => claim,
            None if force => self.kill_and_claim(id).await?,
            None => self.claim_ended(&row).await?,
        };
        self.withdraw_ports(id).await?;
        for network in self.catalog().release_addresses(id).await? {
            self.write_names(network).await?;
        }
        let dirs = [self.state_dir(id), self.run_dir(id)];
        blocking(move || dirs.iter().try_for_each(|dir| remove_dir(dir))).await?;
        self.catalog().delete_container(id).await
    }

    async fn kill_and_wait(&self, key: &str) -> Result<(), Error> {
        match self.kill_container(key, rustix::process::Signal::KILL.as_raw()).await {
            Ok(()) | Err(Error::NotRunning(_)) => {}
            Err(e) => return Err(e),
        }
        match tokio::time::timeout(KILL_TIMEOUT, self.wait_container(key)).await {
            Ok(ended) => ended.map(drop),
            Err(_) => Err(Error::Running(key.to_owned())),
        }
    }

    /// Kills a container and waits until its supervisor is gone. One that has just begun does not listen yet, one
    /// that ends does not any more: it is asked until it is gone.
    async fn kill_and_claim(&self, id: ContainerId) -> Result<Claim, Error> {
        let (key, run_dir) = (id.to_string(), self.run_dir(id));
        let (deadline, mut pause) = (tokio::time::Instant::now() + KILL_TIMEOUT, FIRST_PAUSE);
        loop {
            self.kill_and_wait(&key).await?;
            if let Some(claim) = engine_runtime::claim(&run_dir).at(&run_dir)? {
                return Ok(claim);
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Error::Running(key));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for the supervisor of a container that has ended, which is about to be gone.
    async fn claim_ended(&self, row: &ContainerRow) -> Result<Claim, Error> {
        let run_dir = self.run_dir(row.id);
        let (deadline, mut pause) = (tokio::time::Instant::now() + SUPERVISOR_END, FIRST_PAUSE);
        loop {
            let state = State::load(&self.state_dir(row.id))?;
            let ended = state.is_some_and(|s| s.status == Status::Exited);
            if !ended || tokio::time::Instant::now() >= deadline {
                return Err(Error::Running(row.name.clone()));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            if let Some(claim) = engine_runtime::claim(&run_dir).at(&run_dir)? {
                return Ok(claim);
            }
        }
    }
}
