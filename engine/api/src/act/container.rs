use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::image::Image;
use engine::runtime::spec::Process as ProcessSpec;
use engine::{
    Container, ContainerConfig, EndpointConfig, Error, Event, EventKind, IpcMode, Link, LogDriver, Mount,
    MountKind, MountOptions, NamespaceMode, Network, NetworkMode, signal_number,
};
use engine_types::{ContainerId, ErrorKind, ImageId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::Daemon;
use super::network::check_address;
use crate::error::ApiError;
use crate::parse::{Create, NewVolume, Others, absolute};

/// How long a container may take to end by itself, where nobody says otherwise; Docker's.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a killed container may take to be gone: the kernel needs milliseconds, unless a disk hangs.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long without end is, for a container that is never to be killed: a client says -1.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);
/// The label that tells volumes without a name of their own from others; Docker's.
pub(super) const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// A container with what else is told of it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) container: Container,
    /// Its first process, resolved.
    pub(crate) process: ProcessSpec,
    /// `None` if it is gone.
    pub(crate) image: Option<Arc<Image>>,
    /// Its networks, in its order.
    pub(crate) networks: Vec<Attached>,
    /// The execs that run in it.
    pub(crate) execs: Vec<String>,
    /// Bytes of its own files, and of those with its image's, if that was asked for.
    pub(crate) size: Option<(u64, u64)>,
    /// Where volumes are.
    pub(crate) volumes: PathBuf,
}

/// Images that were read while containers were looked at; `None` for those that are gone.
#[derive(Debug, Default)]
pub(crate) struct Images(HashMap<ImageId, Option<Arc<Image>>>);

/// A network of a container.
#[derive(Debug)]
pub(crate) struct Attached {
    /// As the container calls it.
    pub(crate) name: String,
    /// `None` if it is gone.
    pub(crate) network: Option<Network>,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) endpoint: EndpointConfig,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitFor {
    NotRunning,
    NextExit,
    Removed,
}

/// How a container's network is called in requests.
pub(crate) fn network_mode(config: &ContainerConfig) -> String {
    match &config.network {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(other) => format!("container:{other}"),
        NetworkMode::Network { network, .. } => network.clone(),
    }
}

impl Daemon {
    /// Makes a container and its volumes; warnings beside its id.
    pub(crate) async fn create(&self, create: Create) -> Result<(ContainerId, Vec<String>), ApiError> {
        let Create { mut config, healthcheck, logging, others, mut anonymous, make_sources, .. } = create;
        config.logging = self.logging(logging)?;
        let mut warnings = self.engine().discard_limits(&mut config.resources)?;
        if config.network == NetworkMode::Host && (config.publish_all || !config.ports.is_empty()) {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
        }
        self.find_networks(&mut config).await?;
        self.find_others(&mut config, others).await?;
        let image = self.engine().images().get(config.image)?;
        let its = &image.config.config;
        config.health = engine::resolve_health(its.healthcheck.as_ref(), its.shell.as_deref(), &healthcheck)
            .map_err(Error::from)?;
        // Fails if there is nothing to run.
        let made_up = ContainerId::from_random([0; 32]);
        self.engine().process_of(&config, &image, made_up)?;
        self.mounts_from(&mut config, &create.volumes_from).await?;
        volumes_of(&image, &mut config, &mut anonymous);
        for source in make_sources {
            std::fs::create_dir_all(&source)
                .map_err(|e| ApiError::Invalid(format!("mount source {}: {e}", source.display())))?;
        }
        for &mount in &anonymous {
            let name = ContainerId::from_random(super::random()?).to_string();
            config.mounts[mount].kind = MountKind::Volume(name);
        }
        let id = self.engine().create_container(config.clone()).await?;
        let made = async {
            self.make_volumes(&config, &anonymous, &create.new_volumes).await?;
            self.populate_volumes(&config, &image).await
        };
        if let Err(error) = made.await {
            self.engine().remove_container(&id.to_string(), true).await?;
            self.remove_anonymous(&config).await?;
            return Err(error);
        }
        self.engine().record_container(id, "create", &[]).await?;
        Ok((id, warnings))
    }

    /// A container's log driver: the daemon's where it names none, with the daemon's options where it is the same.
    fn logging(
        &self,
        (driver, mut options): (Option<String>, BTreeMap<String, String>),
    ) -> Result<LogDriver, ApiError> {
        let default = &self.engine().settings().logging;
        let driver = driver.as_deref().unwrap_or(default.name());
        if driver == default.name() {
            for (name, value) in default.options() {
                options.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        Ok(LogDriver::new(driver, options).map_err(Error::from)?)
    }

    /// Finds a container's networks, and calls them by their names.
    async fn find_networks(&self, config: &mut ContainerConfig) -> Result<(), ApiError> {
        for endpoint in config.endpoints.iter_mut().flatten() {
            let network = match self.real_network(&endpoint.network).await {
                Ok(network) => network,
                // It may be there by the time of the start. The docker command takes what is missing now for the image.
                Err(ApiError::Engine(Error::NoSuchNetwork(_))) => continue,
                Err(error) => return Err(error),
            };
            check_address(endpoint, &network)?;
            endpoint.network = network.name;
        }
        Ok(())
    }

    /// Finds a container that another names. That one is missing is the request's fault: the docker command takes what is
    /// not found for the image.
    async fn other(&self, name: &str) -> Result<Container, ApiError> {
        match self.engine().container(name).await {
            Err(Error::NoSuchContainer(_)) => Err(ApiError::Invalid(format!("No such container: {name}"))),
            result => Ok(result?),
        }
    }

    /// Finds the other containers that one names.
    async fn find_others(&self, config: &mut ContainerConfig, others: Others) -> Result<(), ApiError> {
        if let Some(name) = others.network {
            config.network = NetworkMode::Container(self.other(&name).await?.id);
        }
        if let Some(name) = others.joins.pid {
            config.pid = NamespaceMode::Container(self.other(&name).await?.id);
        }
        if let Some(name) = others.joins.ipc {
            let other = self.other(&name).await?;
            if !matches!(other.config.ipc, IpcMode::Shareable | IpcMode::Host) {
                let text = format!(
                    "cannot join IPC of a container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor \
                     container)",
                    other.id
                );
                return Err(ApiError::Invalid(text));
            }
            config.ipc = IpcMode::Container(other.id);
        }
        for (name, alias) in others.links {
            let found = self.other(&name).await;
            let found = found.map_err(|e| match e {
                ApiError::Invalid(text) => {
                    ApiError::Invalid(format!("could not get container for {name}: {text}"))
                }
                e => e,
            });
            config.links.push(Link { container: found?.id, alias });
        }
        Ok(())
    }

    /// Makes the volumes of a container that are not there; those at the indexes `anonymous` go with it.
    async fn make_volumes(
        &self,
        config: &ContainerConfig,
        anonymous: &[usize],
        new: &BTreeMap<usize, NewVolume>,
    ) -> Result<(), ApiError> {
        for (n, mount) in config.mounts.iter().enumerate() {
            let MountKind::Volume(name) = &mount.kind else { continue };
            let NewVolume { mut labels, options } = new.get(&n).cloned().unwrap_or_default();
            labels.extend(anonymous.contains(&n).then(|| (ANONYMOUS_LABEL.to_owned(), String::new())));
            if self.engine().create_volume_with(name, &labels, &options).await? {
                self.record(EventKind::Volume, "create", name, &[("driver", "local")]).await?;
            }
        }
        Ok(())
    }

    /// Copies what the image has into its new volumes.
    async fn populate_volumes(&self, config: &ContainerConfig, image: &Image) -> Result<(), ApiError> {
        for mount in config.mounts.iter().filter(|mount| !mount.options.no_copy) {
            if let (MountKind::Volume(name), None) = (&mount.kind, &mount.options.subpath) {
                self.engine().populate_volume(name, image, &mount.target).await?;
            }
        }
        Ok(())
    }

    /// Adds the mounts of other containers, where the container has none of its own.
    async fn mounts_from(
        &self,
        config: &mut ContainerConfig,
        others: &[(String, bool)],
    ) -> Result<(), ApiError> {
        for (other, read_only) in others {
            for mut mount in self.engine().container(other).await?.config.mounts {
                let taken = config.mounts.iter().any(|own| own.target == mount.target);
                if taken || !matches!(mount.kind, MountKind::Bind(_) | MountKind::Volume(_)) {
                    continue;
                }
                mount.read_only |= read_only;
                mount.options.no_copy = true;
                config.mounts.push(mount);
            }
        }
        Ok(())
    }

    /// Finds out what else is told of a container. `images` keeps the images of those that were seen before.
    pub(crate) async fn see(
        &self,
        container: Container,
        images: &mut Images,
        size: bool,
    ) -> Result<Seen, ApiError> {
        let config = &container.config;
        let image = match images.0.entry(config.image) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(place) => place.insert(self.image_of(config.image)?).clone(),
        };
        let process = image.as_ref().map(|image| self.engine().process_of(config, image, container.id));
        let process = match process {
            Some(Ok(process)) => process,
            // It runs nothing but execs, or its image is gone.
            Some(Err(Error::NoCommand)) | None => ProcessSpec::default(),
            Some(Err(error)) => return Err(error.into()),
        };
        let networks = self.attached(&container).await?;
        let size = match size {
            true => {
                let upper = container.log_path.with_file_name("upper");
                let own = super::blocking(move || super::system::disk_usage(&upper)).await;
                Some((own, own + image.as_ref().map_or(0, |image| image.file_bytes)))
            }
            false => None,
        };
        let execs = self.execs().running_in(container.id);
        let volumes = self.engine().paths().root.join("volumes");
        Ok(Seen { container, process, image, networks, execs, size, volumes })
    }

    fn image_of(&self, id: ImageId) -> Result<Option<Arc<Image>>, ApiError> {
        match self.engine().images().get(id) {
            Ok(image) => Ok(Some(Arc::new(image))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    async fn attached(&self, container: &Container) -> Result<Vec<Attached>, ApiError> {
        let endpoints = container.config.endpoints();
        if endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let addresses = self.engine().addresses(container.id).await?;
        let mut all = Vec::new();
        for endpoint in endpoints {
            let network = match self.engine().network(&endpoint.network).await {
                Ok(network) => Some(network),
                Err(Error::NoSuchNetwork(_)) => None,
                Err(e) => return Err(e.into()),
            };
            let id = network.as_ref().map(|network| network.id);
            let address = addresses.iter().find(|(other, _)| Some(*other) == id).map(|(_, address)| *address);
            let name =
                network.as_ref().map_or_else(|| endpoint.network.clone(), |network| network.name.clone());
            all.push(Attached { name, network, address, endpoint });
        }
        Ok(all)
    }

    pub(crate) async fn start(&self, key: &str) -> Result<(), ApiError> {
        let container = self.engine().container(key).await?;
        if container.is_paused() {
            let text = "cannot start a paused container, try unpause instead";
            return Err(ApiError::Conflict(text.to_owned()));
        }
        if container.running {
            return Err(ApiError::NotModified);
        }
        let id = container.id;
        // What there is to do at the end of its last life is done first.
        self.end_recorded(id).await;
        let (streams, more) = self.take_pending(id);
        let watched = self.about_to_start(id);
        let process = match self.engine().start_container(&id.to_string(), streams).await {
            Ok(process) => process,
            Err(error) => {
                self.give_up(watched);
                if container.config.auto_remove {
                    self.remove(&id.to_string(), true, true).await?;
                }
                return Err(error.into());
            }
        };
        if let Some((rows, columns)) = container.config.console_size.filter(|_| container.config.terminal) {
            process.resize(rows, columns)?;
        }
        let attached = self.attach_more(&container, more).await;
        self.engine().record_container(id, "start", &[]).await?;
        self.look_after(container, process, watched);
        attached
    }

    /// Attaches those clients that waited for a container's start besides the first.
    async fn attach_more(&self, container: &Container, sockets: Vec<OwnedFd>) -> Result<(), ApiError> {
        for socket in sockets {
            match self.engine().attach_container(container.id, socket, container.config.stdin).await {
                // It has ended already.
                Ok(()) | Err(Error::NotRunning(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(crate) async fn kill(&self, key: &str, signal: Option<&str>) -> Result<(), ApiError> {
        let number = signal_named(signal.unwrap_or("SIGKILL"))?;
        let container = match self.engine().container(key).await {
            Err(Error::NoSuchContainer(_)) => {
                let text = format!("cannot kill container: {key}: No such container: {key}");
                return Err(ApiError::NotFound(text));
            }
            other => other?,
        };
        let not_running = || {
            let (name, id) = (key, container.id);
            ApiError::Conflict(format!("cannot kill container: {name}: container {id} is not running"))
        };
        if !container.running {
            return Err(not_running());
        }
        // Nothing survives KILL: who asks for it is answered when the container has ended.
        let recorded = (number == kill_signal()).then(|| self.end_recorded(container.id));
        match self.engine().kill_container(&container.id.to_string(), number).await {
            Err(Error::NotRunning(_)) => return Err(not_running()),
            result => result?,
        }
        let signal = [("signal", number.to_string())];
        self.engine().record_container(container.id, "kill", &signal).await?;
        let Some(recorded) = recorded else { return Ok(()) };
        let hangs = |_| {
            let text = format!(
                "cannot kill container: {key}: it was killed and has not ended within {KILL_TIMEOUT:?}: a process in it \
                 waits for the kernel, for a disk that does not answer, say"
            );
            ApiError::Internal(text)
        };
        tokio::time::timeout(KILL_TIMEOUT, recorded).await.map_err(hangs)
    }

    pub(crate) async fn stop(
        &self,
        key: &str,
        seconds: Option<i64>,
        signal: Option<&str>,
    ) -> Result<(), ApiError> {
        let signal = signal.map(signal_named).transpose()?;
        let container = self.engine().container(key).await?;
        if !container.running {
            return Err(ApiError::NotModified);
        }
        let grace = match seconds.or(container.config.stop_timeout.map(i64::from)) {
            None => STOP_TIMEOUT,
            Some(seconds) => u64::try_from(seconds).map_or(FOREVER, Duration::from_secs),
        };
        let recorded = self.end_recorded(container.id);
        let id = container.id.to_string();
        match signal {
            Some(signal) => self.engine().stop_container_with(&id, signal, grace).await?,
            None => self.engine().stop_container(&id, grace).await?,
        }
        // Its end is recorded before it counts as stopped, so that whoever asks next sees both.
        recorded.await;
        match self.engine().record_container(container.id, "stop", &[]).await {
            Err(Error::NoSuchContainer(_)) => Ok(()),
            result => Ok(result?),
        }
    }

    pub(crate) async fn restart(
        &self,
        key: &str,
        seconds: Option<i64>,
        signal: Option<&str>,
    ) -> Result<(), ApiError> {
        let id = self.engine().container(key).await?.id;
        match self.stop(key, seconds, signal).await {
            Ok(()) | Err(ApiError::NotModified) => {}
            Err(error) => return Err(error),
        }
        self.start(&id.to_string()).await?;
        Ok(self.engine().record_container(id, "restart", &[]).await?)
    }

    pub(crate) async fn rename(&self, key: &str, name: &str) -> Result<(), ApiError> {
        let container = self.engine().container(key).await?;
        let name = name.strip_prefix('/').unwrap_or(name);
        if name == container.name {
            let text = "Renaming a container with the same name as its current name";
            return Err(ApiError::Invalid(text.to_owned()));
        }
        self.engine().rename_container(&container.id.to_string(), name).await?;
        let old = [("oldName", format!("/{}", container.name))];
        Ok(self.engine().record_container(container.id, "rename", &old).await?)
    }

    /// Removes a container; `volumes` takes those without a name of their own along.
    pub(crate) async fn remove(&self, key: &str, force: bool, volumes: bool) -> Result<(), ApiError> {
        let container = self.engine().container(key).await?;
        let id = container.id;
        let attributes = {
            let mut attributes = container.config.labels.clone();
            let image = container.config.image_name.clone();
            attributes.insert("image".into(), image.unwrap_or_else(|| container.config.image.to_string()));
            attributes.insert("name".into(), container.name.clone());
            attributes
        };
        if container.is_paused() && !force {
            return Err(ApiError::Conflict(format!(
                "cannot remove container \"{key}\": container is paused and must be unpaused first"
            )));
        }
        if container.running && force {
            let recorded = self.end_recorded(id);
            match self.engine().kill_container(&id.to_string(), kill_signal()).await {
                Ok(()) => recorded.await,
                Err(Error::NotRunning(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        match self.engine().remove_container(&id.to_string(), force).await {
            // It went with its end.
            Err(Error::NoSuchContainer(_)) if container.config.auto_remove => return Ok(()),
            result => result?,
        }
        self.pending().remove(&id);
        self.execs().forget(id);
        self.engine().record(EventKind::Container, "destroy", &id.to_string(), attributes).await?;
        if volumes {
            self.remove_anonymous(&container.config).await?;
        }
        Ok(())
    }

    async fn remove_anonymous(&self, config: &ContainerConfig) -> Result<(), ApiError> {
        for mount in &config.mounts {
            let MountKind::Volume(name) = &mount.kind else { continue };
            let volume = match self.engine().volume(name).await {
                Ok(volume) => volume,
                Err(Error::NoSuchVolume(_)) => continue,
                Err(e) => return Err(e.into()),
            };
            if volume.labels.contains_key(ANONYMOUS_LABEL) {
                match self.remove_volume(name, false).await {
                    // Another container mounts it by its long name.
                    Ok(()) | Err(ApiError::Engine(Error::VolumeInUse { .. })) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Waits for what a client waits for; the container's exit code. `events` began before the client was answered.
    pub(crate) async fn wait(
        &self,
        id: ContainerId,
        condition: WaitFor,
        mut events: broadcast::Receiver<Event>,
    ) -> Result<i32, ApiError> {
        let key = id.to_string();
        if condition == WaitFor::NotRunning {
            return Ok(self.engine().wait_container(&key).await?.unwrap_or(0));
        }
        let mut code = self.engine().container(&key).await?.state.and_then(|s| s.exit_code).unwrap_or(0);
        loop {
            let event = match events.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => match self.engine().container(&key).await {
                    Ok(_) => continue,
                    Err(_) => return Ok(code),
                },
                Err(RecvError::Closed) => return Ok(code),
            };
            if event.actor != key {
                continue;
            }
            if let Some(exit) = event.attributes.get("exitCode").and_then(|code| code.parse().ok()) {
                code = exit;
            }
            match (event.action.as_str(), condition) {
                ("die", WaitFor::NextExit) | ("destroy", _) => return Ok(code),
                _ => {}
            }
        }
    }
}

fn signal_named(name: &str) -> Result<i32, ApiError> {
    signal_number(name).ok_or_else(|| ApiError::Invalid(format!("Invalid signal: {name}")))
}

fn kill_signal() -> i32 {
    rustix::process::Signal::KILL.as_raw()
}

/// Adds an unnamed volume wherever the image wants one and nothing else is mounted.
fn volumes_of(image: &Image, config: &mut ContainerConfig, anonymous: &mut Vec<usize>) {
    // What an image says is no request that could be refused: a path that makes no sense is left out.
    for target in image.config.config.volumes.keys().filter_map(|path| absolute(path).ok()) {
        if config.mounts.iter().all(|mount| mount.target != target) && target != std::path::Path::new("/") {
            let (kind, options) = (MountKind::Volume(String::new()), MountOptions::default());
            config.mounts.push(Mount { target, kind, read_only: false, options });
            anonymous.push(config.mounts.len() - 1);
        }
    }
}
