//! What happens to containers by itself: ends, restarts, changes of health. Each is an event.

use std::collections::HashMap;

use engine::runtime::{Exit, Happening, HealthStatus};
use engine::{Container, Error, Follow, Process, Starts};
use engine_types::ContainerId;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{Daemon, KILLED};
use crate::error::ApiError;

/// A container that is followed.
pub(super) struct Watched {
    id: ContainerId,
    ended: watch::Sender<bool>,
}

impl Daemon {
    /// Takes up what an earlier daemon of this root left: follows what runs, removes what was to go with its end and has
    /// ended meanwhile, and starts what is to be restarted. Notices what others start from now on.
    pub(crate) async fn resume(&self) -> Result<(), ApiError> {
        self.record_missed().await?;
        self.notice(self.engine().watch_starts()?);
        for container in self.engine().containers().await? {
            match self.engine().follow(container.id).await? {
                Some(follow) => self.take_up(container.id, follow),
                None if container.config.auto_remove && container.state.is_some() => {
                    self.remove(&container.id.to_string(), true, true).await?;
                }
                None => {}
            }
        }
        for (id, result) in self.engine().restart_policies_after_boot().await? {
            if let Err(error) = result {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(container = %id.short(), error, "cannot start a container that is to be restarted");
            }
        }
        Ok(())
    }

    /// Records the ends that came while there was no daemon: those of containers whose last event is another.
    async fn record_missed(&self) -> Result<(), ApiError> {
        let mut last: HashMap<String, String> = HashMap::new();
        for event in self.engine().events_since(Timestamp::UNIX_EPOCH).await? {
            if matches!(event.action.as_str(), "start" | "die") {
                last.insert(event.actor, event.action);
            }
        }
        for container in self.engine().containers().await? {
            let started = last.get(&container.id.to_string()).is_some_and(|action| action == "start");
            let state = container.state.filter(|_| started && !container.running);
            if let Some(state) = state.filter(|state| state.started_at.is_some()) {
                let code = [("exitCode", state.exit_code.unwrap_or(KILLED).to_string())];
                self.engine().record_container(container.id, "die", &code).await?;
            }
        }
        Ok(())
    }

    /// Follows every container that another process starts.
    fn notice(&self, mut starts: Starts) {
        let daemon = self.clone();
        tokio::spawn(async move {
            loop {
                let noticed = async {
                    let id = starts.next().await?;
                    if !daemon.own_starts().remove(&id) {
                        daemon.take_notice(id).await?;
                    }
                    Ok::<_, ApiError>(())
                };
                match noticed.await {
                    Ok(()) | Err(ApiError::Engine(Error::NoSuchContainer(_))) => {}
                    Err(ApiError::Broken(error)) => {
                        tracing::warn!(%error, "containers that others start are not noticed any more");
                        return;
                    }
                    Err(error) => tracing::warn!(error = %error.message(), "cannot follow a container"),
                }
            }
        });
    }

    /// Another process has started this container.
    async fn take_notice(&self, id: ContainerId) -> Result<(), ApiError> {
        let follow = self.engine().follow(id).await?;
        // Recorded first, so that nobody learns of its end before.
        self.engine().record_container(id, "start", &[]).await?;
        if let Some(follow) = follow {
            self.take_up(id, follow);
            return Ok(());
        }
        let state = self.engine().container(&id.to_string()).await?.state;
        let (code, oom_killed) = state.map_or((None, false), |state| (state.exit_code, state.oom_killed));
        let died = self.died(id, Exit { code: code.unwrap_or(KILLED), oom_killed }).await;
        self.ended(self.watch(id), died).await;
        Ok(())
    }

    /// It is about to be started by this daemon.
    pub(super) fn about_to_start(&self, id: ContainerId) -> Watched {
        self.own_starts().insert(id);
        self.watch(id)
    }

    /// It has not been started after all.
    pub(super) fn give_up(&self, watched: Watched) {
        self.own_starts().remove(&watched.id);
        self.unwatch(watched);
    }

    fn watch(&self, id: ContainerId) -> Watched {
        let (ended, receiver) = watch::channel(false);
        self.watched().insert(id, receiver);
        Watched { id, ended }
    }

    fn unwatch(&self, watched: Watched) {
        self.watched().remove(&watched.id);
        watched.ended.send_replace(true);
    }

    fn take_up(&self, id: ContainerId, follow: Follow) {
        let (daemon, watched) = (self.clone(), self.watch(id));
        tokio::spawn(async move {
            let result = daemon.record_all(id, &follow).await;
            daemon.ended(watched, result).await;
        });
    }

    /// Follows a container that this daemon has started. One that ends but once needs no further connection.
    pub(super) fn look_after(&self, container: Container, process: Process, watched: Watched) {
        let several = container.config.restart != engine::runtime::RestartPolicy::No;
        let daemon = self.clone();
        tokio::spawn(async move {
            let id = container.id;
            let result = async {
                let follow = match several || container.config.health.is_some() {
                    true => daemon.engine().follow(id).await?,
                    false => None,
                };
                match follow {
                    Some(follow) => daemon.record_all(id, &follow).await,
                    None => daemon.died(id, process.wait().await?).await,
                }
            };
            let result = result.await;
            daemon.ended(watched, result).await;
        });
    }

    /// Records what happens to a container until it has ended for good.
    async fn record_all(&self, id: ContainerId, follow: &Follow) -> Result<(), ApiError> {
        let mut lives = true;
        while let Some(happening) = follow.next().await? {
            match happening {
                Happening::Started => {
                    lives = true;
                    self.engine().record_container(id, "start", &[]).await?;
                }
                Happening::Ended(exit) => {
                    lives = false;
                    self.died(id, exit).await?;
                }
                Happening::Health(status) => {
                    let word = match status {
                        HealthStatus::Starting => "starting",
                        HealthStatus::Healthy => "healthy",
                        HealthStatus::Unhealthy => "unhealthy",
                    };
                    self.engine().record_container(id, &format!("health_status: {word}"), &[]).await?;
                }
            }
        }
        if lives {
            // Without a word its supervisor was killed, and it with it.
            self.died(id, Exit { code: KILLED, oom_killed: false }).await?;
        }
        Ok(())
    }

    async fn died(&self, id: ContainerId, exit: Exit) -> Result<(), ApiError> {
        if exit.oom_killed {
            self.engine().record_container(id, "oom", &[]).await?;
        }
        Ok(self.engine().record_container(id, "die", &[("exitCode", exit.code.to_string())]).await?)
    }

    async fn ended(&self, watched: Watched, result: Result<(), ApiError>) {
        let id = watched.id;
        let result = async {
            result?;
            let leaves = self.engine().container(&id.to_string()).await?.config.auto_remove;
            if !leaves {
                self.engine().leave_networks(id).await?;
            }
            Ok::<_, ApiError>(leaves)
        };
        let result = result.await;
        // Whoever waits for it may start the container again.
        self.unwatch(watched);
        let result = async {
            if result? {
                self.remove(&id.to_string(), true, true).await?;
            }
            Ok::<_, ApiError>(())
        };
        match result.await {
            // Somebody else has removed it meanwhile.
            Ok(()) | Err(ApiError::Engine(Error::NoSuchContainer(_))) => {}
            Err(error) => {
                tracing::warn!(container = %id.short(), error = %error.message(), "cannot follow its end");
            }
        }
    }

    /// Resolves once a container's last end is recorded; at once if this daemon does not record it.
    pub(super) fn end_recorded(&self, id: ContainerId) -> impl Future<Output = ()> + use<> {
        let watched = self.watched().get(&id).cloned();
        async move {
            if let Some(mut ended) = watched {
                let _ = ended.wait_for(|ended| *ended).await; // it is over, too, if nobody is left to say so
            }
        }
    }
}
