use std::path::PathBuf;
use std::time::Duration;

use engine::runtime::StdStreams;
use engine::runtime::spec::{Process as ProcessSpec, Resources};
use engine::types::ContainerId;
use engine::{
    ContainerConfig, Error, LogDriver, Mount, MountKind, MountOptions, Network, NetworkConfig, NetworkMode,
    Process, Program,
};
use pipelines::{Job, Network as NetworkWish, WORKSPACE};

use super::attempt::{Attempt, Failure};
use super::service::Service;
use crate::event::Phase;

/// How long after an exec of it has been killed a container's end may become known.
pub(super) const END_NOTICE: Duration = Duration::from_secs(1);
/// The longest part of a domain name (RFC 1035).
const HOSTNAME_MAX: usize = 63;

/// The network and containers of one attempt.
pub(super) struct Containers<'a> {
    attempt: &'a Attempt<'a>,
    network: Option<Network>,
    /// Every container, those that did not start as well.
    created: Vec<ContainerId>,
    services: Vec<Service>,
    job: Option<JobContainer>,
}

struct JobContainer {
    id: ContainerId,
    defaults: ProcessSpec,
    /// Keeps it tethered to this process.
    init: Process,
}

impl<'a> Containers<'a> {
    pub(super) fn new(attempt: &'a Attempt<'a>) -> Self {
        Self { attempt, network: None, created: Vec::new(), services: Vec::new(), job: None }
    }

    /// Makes everything that the steps need; the container they run in. What was made before a failure is kept for
    /// [`Containers::take_down`].
    pub(super) async fn set_up(&mut self) -> Result<ContainerId, Failure> {
        let attempt = self.attempt;
        let image = attempt.images.get(attempt, &attempt.job.image).await?;
        self.make_network().await.map_err(|e| set_up("network", &e))?;
        if !attempt.job.services.is_empty() {
            attempt.phase(Phase::Services);
            self.start_services().await?;
        }
        let config = ContainerConfig {
            name: Some(self.name(None)),
            program: Program::Idle,
            env: attempt.job.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            working_dir: Some(WORKSPACE.to_owned()),
            user: attempt.job.user.clone(),
            hostname: Some(hostname(attempt.job)),
            mounts: vec![self.workspace()],
            network: self.mode(Vec::new()),
            resources: self.resources(),
            logging: LogDriver::none(),
            ..self.config(image)
        };
        let engine = &attempt.settings.engine;
        let started = async {
            let id = self.create(config).await?;
            let init = engine.start_container(&id.to_string(), StdStreams::Supervised).await?;
            attempt.warn_of(&init);
            let defaults = engine.process_defaults(&engine.container(&id.to_string()).await?)?;
            Ok(JobContainer { id, defaults, init })
        };
        let job = started.await.map_err(|e: Error| set_up("job container", &e))?;
        let id = job.id;
        self.job = Some(job);
        Ok(id)
    }

    /// Makes a container that [`Containers::take_down`] removes, whether it starts or not.
    pub(super) async fn create(&mut self, config: ContainerConfig) -> Result<ContainerId, Error> {
        let id = self.attempt.settings.engine.create_container(config).await?;
        self.created.push(id);
        Ok(id)
    }

    /// Completes when a service ends, with a text that says so.
    pub(super) async fn service_ended(&self) -> String {
        let ends = self.services.iter().map(|service| Box::pin(service.ended(self.attempt)));
        let (text, _, _) = match self.services.is_empty() {
            true => std::future::pending().await,
            false => futures::future::select_all(ends).await,
        };
        text
    }

    /// Whether the job's container has ended under a step that was killed: its own end may become known a little later.
    pub(super) async fn job_has_ended(&self) -> bool {
        let Some(job) = &self.job else { return false };
        tokio::time::timeout(END_NOTICE, job.init.wait()).await.is_ok()
    }

    /// What a step's process starts from.
    pub(super) fn process_defaults(&self) -> ProcessSpec {
        self.job.as_ref().map(|job| job.defaults.clone()).unwrap_or_default()
    }

    /// The container of the steps, if it came that far.
    pub(super) fn job_container(&self) -> Option<ContainerId> {
        self.job.as_ref().map(|job| job.id)
    }

    /// Removes everything, past failures; the first of them.
    pub(super) async fn take_down(self) -> Result<(), Error> {
        let engine = &self.attempt.settings.engine;
        let removals =
            self.created.iter().map(|id| async { engine.remove_container(&id.to_string(), true).await });
        futures::future::join_all(removals).await.into_iter().collect::<Result<(), Error>>()?;
        match &self.network {
            Some(network) => engine.remove_network(&network.id.to_string()).await,
            None => Ok(()),
        }
    }

    async fn make_network(&mut self) -> Result<(), Error> {
        let job = self.attempt.job;
        if job.network == NetworkWish::None && job.services.is_empty() {
            return Ok(());
        }
        let config = NetworkConfig {
            name: self.name(None),
            internal: job.network == NetworkWish::None,
            host_access: matches!(job.network, NetworkWish::Host),
            session: Some(self.attempt.settings.session.id()),
            ..NetworkConfig::default()
        };
        self.network = Some(self.attempt.settings.engine.create_network(config).await?);
        Ok(())
    }

    async fn start_services(&mut self) -> Result<(), Failure> {
        let attempt = self.attempt;
        for (name, spec) in &attempt.job.services {
            let image = attempt.images.get(attempt, &spec.image).await?;
            let config = ContainerConfig {
                name: Some(self.name(Some(name))),
                hostname: Some(name.clone()),
                network: self.mode(vec![name.clone()]),
                ..self.config(image)
            };
            let service = Service::start(attempt, self, name, spec, config).await?;
            self.services.push(service);
        }
        let checks = self.services.iter().map(|service| service.healthy(attempt));
        futures::future::try_join_all(checks).await.map(drop)
    }

    fn config(&self, image: engine::types::ImageId) -> ContainerConfig {
        ContainerConfig {
            volatile: true,
            tether: true,
            session: Some(self.attempt.settings.session.id()),
            ..ContainerConfig::new(image)
        }
    }

    /// Unique among all that run on this machine, and telling to who lists containers.
    fn name(&self, service: Option<&str>) -> String {
        let session = self.attempt.settings.session.id().short();
        let job = &self.attempt.job.id;
        match service {
            Some(service) => format!("{session}-{job}-{service}"),
            None => format!("{session}-{job}"),
        }
    }

    fn mode(&self, aliases: Vec<String>) -> NetworkMode {
        match &self.network {
            Some(network) => NetworkMode::Network { network: network.id.to_string(), aliases },
            None => NetworkMode::None,
        }
    }

    fn workspace(&self) -> Mount {
        let snapshot = self.attempt.settings.snapshot.path().to_owned();
        let (kind, options) = (MountKind::Overlay(snapshot), MountOptions::default());
        Mount { target: PathBuf::from(WORKSPACE), kind, read_only: false, options }
    }

    fn resources(&self) -> Resources {
        let Some(wish) = &self.attempt.job.resources else { return Resources::default() };
        Resources {
            memory: wish.memory.map(pipelines::Size::bytes),
            // Swap hides that a job needs more than it said.
            memory_swap: wish.memory.map(pipelines::Size::bytes),
            nano_cpus: wish.cpus.map(|cpus| (cpus * 1e9) as u64),
            ..Resources::default()
        }
    }
}

/// The job's id, as far as it may be a host name, unless a service has it: the container's own name comes first.
fn hostname(job: &Job) -> String {
    let mut name: String = job.id.as_str().replace('.', "-").chars().take(HOSTNAME_MAX).collect();
    while job.services.contains_key(&name) {
        name.push_str("-job");
    }
    name
}

/// Names the part of the set-up that failed.
pub(super) fn set_up(what: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::SetUp(format!("{what}: {}", crate::causes(error)))
}
