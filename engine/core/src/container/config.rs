use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use engine_network::PortMapping;
use engine_runtime::spec::{Allowed, DeviceAccess, Propagation, Resources, Security};
use engine_runtime::{HealthCheck, RestartPolicy};
use engine_types::{ContainerId, ImageId, SessionId};
use serde::{Deserialize, Serialize};

use crate::log_driver::LogDriver;
use crate::ports::ExposedPort;
use crate::settings::DnsSettings;

/// Stands for the host's address, as the container reaches it.
pub const HOST_GATEWAY: &str = "host-gateway";

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
    /// It stays open when a client has said all, for the next.
    #[serde(default)]
    pub stdin_stays: bool,
    /// Rows and columns of its terminal from the start on.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
    /// Run a small init as its PID 1.
    pub init: bool,
    /// The id's first twelve digits if absent.
    pub hostname: Option<String>,
    /// What is mounted where.
    pub mounts: Vec<Mount>,
    /// How it is connected.
    pub network: NetworkMode,
    /// Its networks, where there is more to say of them than `network` does: see [`ContainerConfig::endpoints`].
    #[serde(default)]
    pub endpoints: Option<Vec<EndpointConfig>>,
    /// Containers on the default network that it is told of by variables and in /etc/hosts.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Instead of how the host resolves names.
    #[serde(default)]
    pub dns: DnsSettings,
    /// Ports of the host that lead to it, if it is on a network.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// Ports that it serves besides its image's.
    #[serde(default)]
    pub exposed: BTreeSet<ExposedPort>,
    /// Publish every port that it serves.
    #[serde(default)]
    pub publish_all: bool,
    /// `name address` pairs for /etc/hosts; the address may be [`HOST_GATEWAY`].
    pub extra_hosts: Vec<(String, String)>,
    /// What it may do.
    pub security: Security,
    /// What it may use.
    pub resources: Resources,
    /// Its root file system cannot be written.
    pub read_only: bool,
    /// Never sync its writable layer: it is thrown away.
    pub volatile: bool,
    /// Where its output goes.
    #[serde(default)]
    pub logging: LogDriver,
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
    /// Whose processes it sees.
    #[serde(default)]
    pub pid: NamespaceMode,
    /// Whose System V IPC, message queues and /dev/shm it has.
    #[serde(default)]
    pub ipc: IpcMode,
    /// It sees the host's cgroups above its own.
    #[serde(default)]
    pub host_cgroups: bool,
    /// Devices of the host that it has.
    #[serde(default)]
    pub devices: Vec<DeviceMapping>,
    /// It has the host's host name.
    #[serde(default)]
    pub host_uts: bool,
    /// Its domain, behind its host name.
    #[serde(default)]
    pub domainname: Option<String>,
    /// Groups of its user besides those of its image's group file.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Kernel parameters of its own namespaces, by their dotted name.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
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
    /// What its maker wants to show again as it was given; nothing here reads it.
    #[serde(default)]
    pub request: Option<serde_json::Value>,
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
    /// What else was asked for.
    #[serde(default)]
    pub options: MountOptions,
}

/// How something is mounted, where that is not as usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountOptions {
    /// How later mounts reach the other side of a bind mount.
    pub propagation: Propagation,
    /// A bind mount without what is mounted below its source.
    pub non_recursive: bool,
    /// A volume's file or directory instead of all of it.
    pub subpath: Option<PathBuf>,
    /// A new volume does not get what the image has there.
    pub no_copy: bool,
    /// Permission bits of an in-memory file system's root.
    pub mode: Option<u32>,
    /// What may be done in an in-memory file system: nothing of this by default.
    #[serde(default)]
    pub allowed: Allowed,
    /// Further options of an in-memory file system: `uid`, `nr_inodes`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
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
    /// That of another container, which has to run.
    Container(ContainerId),
}

/// Whose namespace a container is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    /// One of its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's, which has to run.
    Container(ContainerId),
}

/// Whose System V IPC, message queues and /dev/shm a container has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpcMode {
    /// Its own.
    #[default]
    Private,
    /// Its own, which others may join.
    Shareable,
    /// Its own, without a /dev/shm.
    None,
    /// The host's.
    Host,
    /// Another container's, which has to run.
    Container(ContainerId),
}

/// A device of the host, or all in a directory, that a container has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Where on the host.
    pub host: PathBuf,
    /// Where in the container.
    pub container: PathBuf,
    /// How it may be used.
    pub access: DeviceAccess,
}

/// A container's place on a network, as it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointConfig {
    /// The network, by id or name.
    pub network: String,
    /// Names besides the container's own that resolve to it there.
    pub aliases: Vec<String>,
    /// Its address; a free one if absent.
    pub address: Option<Ipv4Addr>,
    /// Its hardware address; derived from the other if absent.
    pub mac: Option<[u8; 6]>,
    /// Names that stand for another container's in this one alone.
    pub links: BTreeMap<String, String>,
    /// Of several networks, that with the highest has the default route.
    pub priority: i64,
    /// What its maker wants to show again; nothing here reads it.
    pub options: BTreeMap<String, String>,
}

/// A container that another is told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// It.
    pub container: ContainerId,
    /// What it is called there.
    pub alias: String,
}

impl ContainerConfig {
    /// The networks that it is on when it runs.
    pub fn endpoints(&self) -> Vec<EndpointConfig> {
        match (&self.endpoints, &self.network) {
            (Some(endpoints), _) => endpoints.clone(),
            (None, NetworkMode::Network { network, aliases }) => {
                let (network, aliases) = (network.clone(), aliases.clone());
                vec![EndpointConfig { network, aliases, ..EndpointConfig::default() }]
            }
            (None, _) => Vec::new(),
        }
    }

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
            stdin_stays: false,
            console_size: None,
            init: false,
            hostname: None,
            mounts: Vec::new(),
            network: NetworkMode::None,
            endpoints: None,
            links: Vec::new(),
            dns: DnsSettings::default(),
            ports: Vec::new(),
            exposed: BTreeSet::new(),
            publish_all: false,
            extra_hosts: Vec::new(),
            security: Security::default(),
            resources: Resources::default(),
            read_only: false,
            volatile: false,
            logging: LogDriver::default(),
            restart: RestartPolicy::No,
            health: None,
            tether: false,
            shm_size: 64 << 20,
            pid: NamespaceMode::Private,
            ipc: IpcMode::Private,
            host_cgroups: false,
            devices: Vec::new(),
            host_uts: false,
            domainname: None,
            groups: Vec::new(),
            sysctls: BTreeMap::new(),
            labels: BTreeMap::new(),
            session: None,
            image_name: None,
            auto_remove: false,
            stop_signal: None,
            stop_timeout: None,
            request: None,
        }
    }
}
