use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::image::ContainerConfig as ImageConfig;
use engine::runtime::spec::Process as ProcessSpec;
use engine::runtime::{ExecStreams, StdStreams};
use engine::types::ContainerId;
use engine::{ContainerConfig, Process, Program};
use pipelines::{Command, Service as ServiceSpec};
use rustix::process::Signal;

use super::attempt::{Attempt, Failure};
use super::containers::{Containers, END_NOTICE, set_up};
use crate::event::Event;

/// The pause before a service's health is asked for again: it begins so and grows by half each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long a service may take to become healthy; longer if its image says so.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(120);
/// How long one run of the health command may take: one that hangs may have been too early.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Docker's values where an image's HEALTHCHECK has none.
const IMAGE_PROBE_TIMEOUT: Duration = Duration::from_secs(30);
const IMAGE_INTERVAL: Duration = Duration::from_secs(30);
const IMAGE_RETRIES: u32 = 3;
/// How much of a failed service's log is shown, in bytes from its end.
const LOG_SHOWN: usize = 16 * 1024;

/// A container beside the job.
pub(super) struct Service {
    pub(super) id: ContainerId,
    name: Arc<str>,
    process: Process,
    health: Option<Health>,
}

/// How a service is asked whether it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Health {
    args: Vec<String>,
    defaults: ProcessSpec,
    /// How long one probe may take.
    timeout: Duration,
    /// The longest time from the end of one to the next.
    interval: Duration,
    /// How long all of them may take.
    limit: Duration,
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
            attempt.warn_of(&process);
            let container = engine.container(&id.to_string()).await?;
            let defaults = engine.process_defaults(&container)?;
            let health = match &spec.health {
                Some(command) => Some(Health::of_pipeline(command, defaults)),
                None => {
                    Health::of_image(&engine.images().get(container.config.image)?.config.config, defaults)
                }
            };
            Ok(Self { id, name: name.into(), process, health })
        };
        started.await.map_err(|e: engine::Error| set_up(&format!("service {name:?}"), &e))
    }

    /// Waits until its health command succeeds; at once without one. Fails if the service ends first.
    pub(super) async fn healthy(&self, attempt: &Attempt<'_>) -> Result<(), Failure> {
        let Some(health) = &self.health else { return Ok(()) };
        // Behind a lock because the future below holds on to it while this reads it.
        let last = Mutex::new(Probe::TimedOut);
        let probing = async {
            let mut pause = FIRST_PAUSE;
            loop {
                let probe = self.probe_alive(attempt, health).await?;
                if probe == Probe::Ended(0) {
                    return Ok(());
                }
                *last.lock().unwrap_or_else(PoisonError::into_inner) = probe;
                tokio::time::sleep(pause.min(health.interval)).await;
                pause = (pause * 3 / 2).min(LONGEST_PAUSE);
            }
        };
        tokio::select! {
            biased;
            healthy = probing => healthy,
            text = self.ended(attempt) => Err(Failure::Service(text)),
            () = tokio::time::sleep(health.limit) => {
                self.show_log(attempt).await;
                let (name, limit) = (&self.name, health.limit.as_secs());
                let last = last.lock().unwrap_or_else(PoisonError::into_inner).to_string();
                let command = health.args.join(" ");
                let text = format!("service {name:?} did not become healthy within {limit}s: {command:?} {last}");
                Err(Failure::Service(text))
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
    async fn probe_alive(&self, attempt: &Attempt<'_>, health: &Health) -> Result<Probe, Failure> {
        match self.probe(attempt, health).await {
            // The kernel's answer to joining a container that is going away depends on how far it has come.
            Err(failure) => match tokio::time::timeout(END_NOTICE, self.ended(attempt)).await {
                Ok(text) => Err(Failure::Service(text)),
                Err(_) => Err(failure),
            },
            probed => probed,
        }
    }

    async fn probe(&self, attempt: &Attempt<'_>, health: &Health) -> Result<Probe, Failure> {
        let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let probed = async {
            let streams = ExecStreams::Direct([null()?, null()?, null()?]);
            let process = ProcessSpec { args: health.args.clone(), ..health.defaults.clone() };
            let process = attempt.settings.engine.exec(self.id, process, false, streams).await?;
            if let Ok(exit) = tokio::time::timeout(health.timeout, process.wait()).await {
                return Ok(Probe::Ended(exit?.code));
            }
            process.signal(Signal::KILL.as_raw())?;
            process.wait().await?;
            Ok(Probe::TimedOut)
        };
        match probed.await {
            Ok(probe) => Ok(probe),
            // It has just ended, which is noticed elsewhere.
            Err(ProbeError::Engine(engine::Error::NotRunning(_))) => Ok(Probe::TimedOut),
            Err(error) => Err(set_up(&format!("health of service {:?}", self.name), &error)),
        }
    }

    async fn show_log(&self, attempt: &Attempt<'_>) {
        let Ok(container) = attempt.settings.engine.container(&self.id.to_string()).await else { return };
        let Ok(mut log) = attempt.settings.engine.logs(&container, None, false).await else { return };
        let mut text = String::new();
        while let Ok(Some(lines)) = log.next().await {
            for line in lines.iter() {
                text.push_str(&line.text);
                text.push_str(if line.newline { "\n" } else { "" });
            }
        }
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

impl Health {
    fn of_pipeline(command: &Command, defaults: ProcessSpec) -> Self {
        let (args, interval) = (words(command), LONGEST_PAUSE);
        Self { args, defaults, timeout: PROBE_TIMEOUT, interval, limit: HEALTH_TIMEOUT }
    }

    /// By the image's HEALTHCHECK, if it has one. It is probed more often than it says, since a job waits for it, and
    /// for as long as it may take until Docker calls it unhealthy.
    fn of_image(image: &ImageConfig, defaults: ProcessSpec) -> Option<Self> {
        let check = image.healthcheck.as_ref()?;
        let (kind, rest) = check.test.split_first()?;
        let args = match (kind.as_str(), rest) {
            ("CMD", args) => args.to_vec(),
            ("CMD-SHELL", [line]) => {
                let shell = image.shell.clone().filter(|shell| !shell.is_empty());
                let mut args = shell.unwrap_or_else(|| ["/bin/sh", "-c"].map(str::to_owned).into());
                args.push(line.clone());
                args
            }
            _ => return None,
        };
        let given =
            |nanoseconds: i64| u64::try_from(nanoseconds).ok().filter(|&n| n > 0).map(Duration::from_nanos);
        let timeout = given(check.timeout).unwrap_or(IMAGE_PROBE_TIMEOUT);
        let interval = given(check.interval).unwrap_or(IMAGE_INTERVAL);
        let retries = u32::try_from(check.retries).ok().filter(|&n| n > 0).unwrap_or(IMAGE_RETRIES);
        let tries = interval.saturating_add(timeout).saturating_mul(retries);
        let limit = given(check.start_period).unwrap_or_default().saturating_add(tries).max(HEALTH_TIMEOUT);
        (!args.is_empty()).then_some(Self { args, defaults, timeout, interval, limit })
    }
}

/// How one run of the health command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probe {
    Ended(i32),
    TimedOut,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(code) => write!(f, "ended with exit code {code}"),
            Self::TimedOut => f.write_str("did not end"),
        }
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

#[cfg(test)]
mod tests {
    use engine::image::Healthcheck;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn of_image(check: Healthcheck) -> Option<Health> {
        let image = ImageConfig { healthcheck: Some(check), ..ImageConfig::default() };
        Health::of_image(&image, ProcessSpec::default())
    }

    fn test(words: &[&str]) -> Healthcheck {
        Healthcheck { test: words.iter().map(|&word| word.to_owned()).collect(), ..Healthcheck::default() }
    }

    #[test]
    fn an_images_check_is_run_as_docker_does() {
        assert_eq!(of_image(test(&["CMD", "a", "b"])).unwrap().args, ["a", "b"]);
        assert_eq!(of_image(test(&["CMD-SHELL", "a b"])).unwrap().args, ["/bin/sh", "-c", "a b"]);
        for none in [&["NONE"][..], &[], &["CMD"]] {
            assert_eq!(of_image(test(none)), None);
        }
        let image = ImageConfig {
            healthcheck: Some(test(&["CMD-SHELL", "a"])),
            shell: Some(vec!["/bin/bash".into(), "-c".into()]),
            ..ImageConfig::default()
        };
        let health = Health::of_image(&image, ProcessSpec::default()).unwrap();
        assert_eq!(health.args, ["/bin/bash", "-c", "a"]);
    }

    #[test]
    fn a_slow_start_is_waited_for() {
        let plain = of_image(test(&["CMD", "a"])).unwrap();
        assert_eq!((plain.timeout, plain.limit.as_secs()), (IMAGE_PROBE_TIMEOUT, 180));
        let check = Healthcheck {
            start_period: 600 * SECOND,
            interval: 2 * SECOND,
            timeout: 3 * SECOND,
            retries: 5,
            ..test(&["CMD", "a"])
        };
        let slow = of_image(check).unwrap();
        assert_eq!((slow.timeout.as_secs(), slow.interval.as_secs(), slow.limit.as_secs()), (3, 2, 625));
    }
}
