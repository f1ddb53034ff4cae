use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine_network::{AttachError, EndpointSpec, IfName, PortMapping, PublishedPort, Switch, Withdrawal};
use engine_runtime::spec::{HostCommand, Process as ProcessSpec, Resources, Security, Spec};
use engine_runtime::{
    Claim, Client, ClientError, ExecStreams, HealthCheck, RestartPolicy, Running, Starting, State, Status,
    StdStreams,
};
use engine_types::{ContainerId, ImageId, SessionId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::catalog::{ContainerRow, from_json, to_json};
use crate::engine::{Engine, blocking, random};
use crate::error::{At, Error};
use crate::network::{Network, write_names};
use crate::ports::{ExposedPort, all_exposed};
use crate::process::{End, Process};
use crate::session::remove_dir;

/// How long a killed container may take to be gone; the kernel needs milliseconds unless its disk hangs.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a supervisor may take to be gone after it has recorded its container's end.
const SUPERVISOR_END: Duration = Duration::from_secs(1);
/// The pause before a supervisor that is on its way out is looked at again: it begins so and doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What a container is to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Its name; one is made up if absent.
    pub name: Option<String>,
    /// Its image.
    pub image: ImageId,
    /// What it runs.
    pub program: Program,
    /// `NAME=value` each, over the image's.
    pub env: Vec<String>,
    /// Instead of the image's.
    pub working_dir: Option<String>,
    /// Instead of the image's.
    pub user: Option<String>,
    /// Give it a terminal.
    pub terminal: bool,
    /// Keep its standard input open for whoever attaches.
    pub stdin: bool,
    /// Run a small init as its PID 1.
    pub init: bool,
    /// The id's first twelve digits if absent.
    pub hostname: Option<String>,
    /// What is mounted where.
    pub mounts: Vec<Mount>,
    /// How it is connected.
    pub network: NetworkMode,
    /// Ports of the host that lead to it, if it is on a network.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// Ports that it serves besides its image's.
    #[serde(default)]
    pub exposed: BTreeSet<ExposedPort>,
    /// Publish every port that it serves.
    #[serde(default)]
    pub publish_all: bool,
    /// `name address` pairs for /etc/hosts.
    pub extra_hosts: Vec<(String, String)>,
    /// What it may do.
    pub security: Security,
    /// What it may use.
    pub resources: Resources,
    /// Its root file system cannot be written.
    pub read_only: bool,
    /// Never sync its writable layer: it is thrown away.
    pub volatile: bool,
    /// Write its output to a log.
    pub log: bool,
    /// What happens when it ends.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How it is found out whether it works: see [`crate::resolve_health`] for what its image says.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// Kill it when the process that started it dies.
    pub tether: bool,
    /// Size of /dev/shm in bytes.
    pub shm_size: u64,
    /// Free text for tools.
    pub labels: BTreeMap<String, String>,
    /// Goes with this session.
    pub session: Option<SessionId>,
    /// What the image was asked for by.
    #[serde(default)]
    pub image_name: Option<String>,
    /// Whoever watches over it removes it when it ends.
    #[serde(default)]
    pub auto_remove: bool,
    /// What asks it to end, see [`crate::signal_number`]; the image's, or TERM.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Seconds between that and KILL, where nobody says otherwise.
    #[serde(default)]
    pub stop_timeout: Option<u32>,
}

/// What a container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// The image's entry point and command, each replaced if given.
    Command {
        /// Instead of the image's entry point; clears its command, too.
        entrypoint: Option<Vec<String>>,
        /// Instead of the image's command.
        command: Option<Vec<String>>,
    },
    /// Nothing: it lives until it is killed, and work comes by exec.
    Idle,
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, absolute.
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
    /// No writes through it.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host.
    Bind(PathBuf),
    /// A volume, made if absent.
    Volume(String),
    /// An in-memory file system of so many bytes, half the memory by default.
    Tmpfs(Option<u64>),
    /// A private, writable view of a directory that stays as it is; changes go to a directory beside the container's.
    /// What is root's belongs to the container's user in it.
    Overlay(PathBuf),
}

/// How a container is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
    /// A network, by id or name.
    Network {
        /// The network.
        network: String,
        /// Names besides the container's own that resolve to it there.
        aliases: Vec<String>,
    },
}

impl ContainerConfig {
    /// A container as `run` makes it without options.
    pub fn new(image: ImageId) -> Self {
        Self {
            name: None,
            image,
            program: Program::Command { entrypoint: None, command: None },
            env: Vec::new(),
            working_dir: None,
            user: None,
            terminal: false,
            stdin: false,
            init: false,
            hostname: None,
            mounts: Vec::new(),
            network: NetworkMode::None,
            ports: Vec::new(),
            exposed: BTreeSet::new(),
            publish_all: false,
            extra_hosts: Vec::new(),
            security: Security::default(),
            resources: Resources::default(),
            read_only: false,
            volatile: false,
            log: true,
            restart: RestartPolicy::No,
            health: None,
            tether: false,
            shm_size: 64 << 20,
            labels: BTreeMap::new(),
            session: None,
            image_name: None,
            auto_remove: false,
            stop_signal: None,
            stop_timeout: None,
        }
    }
}

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

    /// Starts a container; returns once its program runs.
    pub async fn start_container(&self, key: &str, streams: StdStreams) -> Result<Process, Error> {
        let row = self.catalog().container(key).await?;
        let config: ContainerConfig = from_json(&row.config)?;
        let network = match &config.network {
            NetworkMode::Network { network, .. } => Some(self.network(network).await?),
            _ => None,
        };
        let names = network.as_ref().map(|network| self.names_file(network.id));
        let address = match &network {
            Some(network) => {
                self.adopt_switch(network).await?;
                Some(self.allocate_address(&row, &config, network).await?)
            }
            None => None,
        };
        for mount in &config.mounts {
            if let MountKind::Volume(name) = &mount.kind {
                self.create_volume(name, config.session).await?;
            }
        }
        let reserved = match &network {
            Some(network) => self.reserve_ports(&config, network).await?,
            None => None,
        };
        let (id, ports) = (row.id, reserved.as_ref().map(|r| r.ports.clone()));
        let (engine, its_network) = (self.clone(), network.clone());
        let preparing = blocking(move || {
            let mut spec = engine.spec(&row, &config, address.map(|a| (a, names)))?;
            if let Some((ports, address)) = ports.zip(address) {
                spec.cleanup = Some(engine.withdrawal(address, &ports)?);
            }
            engine.prepare(&spec, streams, its_network.as_ref().zip(address))
        });
        let prepared = preparing.await?;
        let running = match (reserved, network.zip(address)) {
            (Some(reserved), Some((network, address))) => {
                let started = match self.publish_ports(id, &network, address, &reserved.ports).await {
                    Ok(()) => blocking(move || prepared.proceed(Some(reserved.as_fd()))).await,
                    Err(e) => Err(e),
                };
                if started.is_err() {
                    self.withdraw_ports(id).await?;
                }
                started?
            }
            _ => blocking(move || prepared.proceed(None)).await?,
        };
        Process::new(running).at(key)
    }

    fn withdrawal(&self, address: Ipv4Addr, ports: &[PublishedPort]) -> Result<HostCommand, Error> {
        let Withdrawal { program, args, input } = self.driver().withdrawal(address, ports)?;
        Ok(HostCommand { program, args, input })
    }

    /// Runs a process in a running container.
    pub async fn exec(
        &self,
        id: ContainerId,
        process: ProcessSpec,
        privileged: bool,
        streams: ExecStreams,
    ) -> Result<Process, Error> {
        let run_dir = self.run_dir(id);
        let running = blocking(move || Client::connect(&run_dir)?.exec(&process, privileged, streams)).await;
        let running = running.map_err(|e| not_running(e, id))?;
        Process::new(running).at(self.run_dir(id))
    }

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

    /// Has a running container's output copied to a stream socket, and its input taken from there; see
    /// [`Client::attach`] for how it is framed.
    pub async fn attach_container(&self, id: ContainerId, socket: OwnedFd, input: bool) -> Result<(), Error> {
        let run_dir = self.run_dir(id);
        let attached = blocking(move || Client::connect(&run_dir)?.attach(socket.as_fd(), true, input)).await;
        attached.map_err(|e| not_running(e, id))
    }

    /// Sets the size of a running container's terminal.
    pub async fn resize_container(&self, id: ContainerId, rows: u16, columns: u16) -> Result<(), Error> {
        let run_dir = self.run_dir(id);
        let resized = blocking(move || Client::connect(&run_dir)?.resize(rows, columns)).await;
        resized.map_err(|e| not_running(e, id))
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

    async fn stop_signal(&self, key: &str) -> Result<i32, Error> {
        let config: ContainerConfig = from_json(&self.catalog().container(key).await?.config)?;
        let name = match config.stop_signal {
            Some(name) => Some(name),
            None => self.images().get(config.image)?.config.config.stop_signal,
        };
        let number = name.and_then(|name| crate::signal_number(&name));
        Ok(number.unwrap_or(rustix::process::Signal::TERM.as_raw()))
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

    async fn allocate_address(
        &self,
        row: &ContainerRow,
        config: &ContainerConfig,
        network: &Network,
    ) -> Result<Ipv4Addr, Error> {
        let mut names = vec![row.name.clone(), row.id.short()];
        if let NetworkMode::Network { aliases, .. } = &config.network {
            names.extend(aliases.iter().cloned());
        }
        let candidates = network.subnet.hosts().filter(|&a| a != network.gateway);
        let address = self.catalog().allocate_address(row.id, network.id, &names, candidates).await?;
        self.write_names(network.id).await?;
        address.ok_or_else(|| Error::NoFreeAddress(network.name.clone()))
    }

    async fn write_names(&self, network: engine_types::NetworkId) -> Result<(), Error> {
        let names = self.catalog().names(network).await?;
        let path = self.names_file(network);
        write_names(&path, &names).at(&path)
    }

    /// Has the runtime make a container, wires it and runs its program.
    pub(crate) fn launch(
        &self,
        spec: &Spec,
        streams: StdStreams,
        endpoint: Option<(&Network, Ipv4Addr)>,
    ) -> Result<Running, Error> {
        self.prepare(spec, streams, endpoint)?.proceed(None)
    }

    /// Has the runtime make a container and wires it. The network's bridge, if this is its first container since the
    /// machine started, is made meanwhile.
    fn prepare(
        &self,
        spec: &Spec,
        streams: StdStreams,
        endpoint: Option<(&Network, Ipv4Addr)>,
    ) -> Result<Prepared, Error> {
        let (starting, switch) = std::thread::scope(|scope| {
            let bridge = endpoint.map(|(network, _)| scope.spawn(|| self.ensure_bridge(network)));
            let starting = self.launcher().start(spec, streams);
            let switch = match bridge.map(std::thread::ScopedJoinHandle::join) {
                Some(Ok(result)) => result?,
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                None => None,
            };
            Ok::<_, Error>((starting?, switch))
        })?;
        match (starting.network_namespace(), endpoint) {
            (Some(namespace), Some((network, address))) => {
                self.attach(spec, network, address, switch.as_deref(), namespace)?;
            }
            (Some(namespace), None) => self.driver().loopback_up(namespace)?,
            (None, _) => {}
        }
        Ok(Prepared { starting, switch })
    }

    fn attach(
        &self,
        spec: &Spec,
        network: &Network,
        address: Ipv4Addr,
        switch: Option<&Switch>,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let bridge = match switch {
            Some(_) => IfName::switch_bridge(),
            None => self.driver().bridge_name(&network.id),
        };
        let endpoint = EndpointSpec {
            network: network.id,
            bridge,
            isolated: false,
            hairpin: spec.cleanup.is_some(),
            host_ifname: IfName::endpoint(&spec.id, &network.id),
            container_ifname: IfName::eth0(),
            mac: None,
            address,
            prefix: network.subnet.prefix_len(),
            gateway: (!network.config.internal).then_some(network.gateway),
            mtu: None,
        };
        match self.driver().attach(&endpoint, switch, namespace) {
            // The kernel takes the interface of a life that has just ended down in the background. The supervisor's lock
            // says that there is no other.
            Err(AttachError::NameTaken { .. }) => {
                self.driver().detach(&endpoint.host_ifname, switch)?;
                Ok(self.driver().attach(&endpoint, switch, namespace)?)
            }
            result => Ok(result?),
        }
    }
}

/// A container that is made and wired, whose program does not run yet; taken down again if dropped.
struct Prepared {
    starting: Starting,
    switch: Option<Arc<Switch>>,
}

impl Prepared {
    /// Runs the program. The supervisor keeps a copy of what keeps the container's published ports.
    fn proceed(self, ports: Option<BorrowedFd<'_>>) -> Result<Running, Error> {
        Ok(self.starting.proceed(self.switch.as_ref().map(|switch| switch.as_fd()), ports)?)
    }
}

fn not_running(error: ClientError, id: ContainerId) -> Error {
    match error {
        ClientError::NotRunning => Error::NotRunning(id.short()),
        other => other.into(),
    }
}
