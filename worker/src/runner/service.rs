use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use engine::runtime::spec::Process as ProcessSpec;
use engine::runtime::{ExecStreams, StdStreams};
use engine::types::ContainerId;
use engine::{ContainerConfig, Process, Program};
use pipelines::{Command, Service as ServiceSpec};

use super::attempt::{Attempt, Failure};
use super::containers::{Containers, set_up};
use crate::event::Event;

/// The pause before a service's health is asked for again: it begins so and grows by half each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a service may take to become healthy.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(120);
/// How long after its container can't be joined any more a service's end may become known.
const END_NOTICE: Duration = Duration::from_secs(1);
/// How much of a failed service's log is shown, in bytes from its end.
const LOG_SHOWN: usize = 16 * 1024;

/// A container beside the job.
pub(super) struct Service {
    pub(super) id: ContainerId,
    name: Arc<str>,
    process: Process,
    health: Option<ProcessSpec>,
}

impl Service {
    pub(super) async fn start(
        attempt: &Attempt<'_>,
        containers: &mut Containers<'_>,
        name: &str,
        spec: &ServiceSpec,
        config: ContainerConfig,
    ) -> Result<Self, Failure> {
        let engine = &attempt.settings.engine;
        let started = async {
            let config = ContainerConfig {
                program: Program::Command {
                    entrypoint: spec.entrypoint.as_ref().map(words),
                    command: spec.command.as_ref().map(words),
                },
                env: spec.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
                user: spec.user.clone(),
                ..config
            };
            let id = containers.create(config).await?;
            let process = engine.start_container(&id.to_string(), StdStreams::Supervised).await?;
            let defaults = engine.process_defaults(&engine.container(&id.to_string()).await?)?;
            let health = spec.health.as_ref().map(|command| ProcessSpec { args: words(command), ..defaults });
            Ok(Self { id, name: name.into(), process, health })
        };
        started.await.map_err(|e: engine::Error| set_up(&format!("service {name:?}"), &e))
    }

    /// Waits until its health command succeeds; at once without one. Fails if the service ends first.
    pub(super) async fn healthy(&self, attempt: &Attempt<'_>) -> Result<(), Failure> {
        let Some(probe) = &self.health else { return Ok(()) };
        let probing = async {
            let mut pause = FIRST_PAUSE;
            while !self.probe_alive(attempt, probe).await? {
                tokio::time::sleep(pause).await;
                pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            }
            Ok(())
        };
        tokio::select! {
            biased;
            healthy = probing => healthy,
            text = self.ended(attempt) => Err(Failure::Service(text)),
            () = tokio::time::sleep(HEALTH_TIMEOUT) => {
                self.show_log(attempt).await;
                let limit = HEALTH_TIMEOUT.as_secs();
                Err(Failure::Service(format!("service {:?} did not become healthy within {limit}s", self.name)))
            }
        }
    }

    /// Completes when the service has ended, which it should not; shows its log and says so.
    pub(super) async fn ended(&self, attempt: &Attempt<'_>) -> String {
        let exit = self.process.wait().await;
        self.show_log(attempt).await;
        match exit {
            Ok(exit) if exit.oom_killed => format!("service {:?} ran out of memory", self.name),
            Ok(exit) => format!("service {:?} ended with exit code {}", self.name, exit.code),
            Err(error) => format!("service {:?}: {error}", self.name),
        }
    }

    /// Probes; where that fails because the service is ending, its end is the reason.
    async fn probe_alive(&self, attempt: &Attempt<'_>, probe: &ProcessSpec) -> Result<bool, Failure> {
        match self.probe(attempt, probe).await {
            // The kernel's answer to joining a container that is going away depends on how far it has come.
            Err(failure) => match tokio::time::timeout(END_NOTICE, self.ended(attempt)).await {
                Ok(text) => Err(Failure::Service(text)),
                Err(_) => Err(failure),
            },
            probed => probed,
        }
    }

    async fn probe(&self, attempt: &Attempt<'_>, probe: &ProcessSpec) -> Result<bool, Failure> {
        let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let probed = async {
            let streams = ExecStreams::Direct([null()?, null()?, null()?]);
            let process = attempt.settings.engine.exec(self.id, probe.clone(), false, streams).await?;
            Ok(process.wait().await?.code == 0)
        };
        match probed.await {
            Ok(healthy) => Ok(healthy),
            // It has just ended, which is noticed elsewhere.
            Err(ProbeError::Engine(engine::Error::NotRunning(_))) => Ok(false),
            Err(error) => Err(set_up(&format!("health of service {:?}", self.name), &error)),
        }
    }

    async fn show_log(&self, attempt: &Attempt<'_>) {
        let Ok(container) = attempt.settings.engine.container(&self.id.to_string()).await else { return };
        let Ok(entries) = engine::runtime::log::read(&container.log_path) else { return };
        let text: String = entries.into_iter().map(|entry| entry.log).collect();
        let shown = text.len().saturating_sub(LOG_SHOWN);
        let start = (shown..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
        let mut masked = attempt.masker.stream();
        let mut bytes = masked.push(&text.as_bytes()[start..]);
        bytes.extend(masked.finish());
        let source = Arc::clone(&self.name);
        attempt.settings.reporter.report(Event::Output {
            job: attempt.job.id.clone(),
            source,
            stderr: true,
            bytes,
        });
    }
}

#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

fn words(command: &Command) -> Vec<String> {
    match command {
        Command::Shell(line) => ["/bin/sh", "-c", line].map(str::to_owned).into(),
        Command::Exec(words) => words.clone(),
    }
}
