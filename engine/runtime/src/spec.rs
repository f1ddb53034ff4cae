//! What a container is to be: everything the supervisor needs, resolved by the caller, nothing left to look up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use engine_types::ContainerId;
use serde::{Deserialize, Serialize};

use crate::capabilities::Capabilities;
use crate::health::HealthCheck;
use crate::log::Forward;
use crate::restart::RestartPolicy;

/// A container, complete: the supervisor reads nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Names the cgroup directory and the run directory.
    pub id: ContainerId,
    /// Holds `state.json` and the mount point `rootfs/`; survives a reboot. Must exist.
    pub state_dir: PathBuf,
    /// Holds the supervisor's socket and lock. Must exist.
    pub run_dir: PathBuf,
    /// The root file system.
    pub rootfs: Rootfs,
    /// The first process.
    pub process: Process,
    /// Run a small init as PID 1 that reaps orphans and forwards signals to the process. Without any `args` that init
    /// is all there is: the container lives until it is killed, and exec brings the work.
    pub init: bool,
    /// The host name inside; empty keeps the host's.
    pub hostname: String,
    /// The NIS domain name inside; empty leaves it unset.
    pub domainname: String,
    /// Mounted in this order, after /proc, /sys and /dev.
    pub mounts: Vec<Mount>,
    /// Which namespaces are the container's own.
    pub namespaces: Namespaces,
    /// Mappings of a private user namespace; refused as yet. `None` shares the host's.
    pub user_namespace: Option<UserNamespace>,
    /// What its processes may do.
    pub security: Security,
    /// What it may use.
    pub resources: Resources,
    /// Kernel parameters of its own namespaces, by their dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// Size of /dev/shm in bytes; 0 is none at all.
    pub shm_size: u64,
    /// Where its output goes, if anywhere.
    pub log: Option<LogConfig>,
    /// Answers DNS at 127.0.0.11 inside a private network namespace.
    pub dns: Option<DnsConfig>,
    /// Kill the container as soon as the process that launched it closes its connection or dies.
    pub tether: bool,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// How it is found out whether it works.
    pub health: Option<HealthCheck>,
    /// The name of the cgroup directory that all containers of this engine root share.
    pub cgroup_parent: String,
    /// Run once the container has ended for good, before anybody is told: takes back what it had of the host's.
    pub cleanup: Option<HostCommand>,
}

/// A program of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCommand {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its standard input.
    pub input: String,
}

/// An overlay of read-only layers under one writable directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Unpacked layers, topmost first; at least one.
    pub layers: Vec<PathBuf>,
    /// Takes the container's changes.
    pub upper: PathBuf,
    /// Overlayfs's scratch directory, on the same file system as `upper`.
    pub work: PathBuf,
    /// Make the root read-only to the container.
    pub read_only: bool,
    /// Skip all syncing of `upper` (overlayfs `volatile`): for what is thrown away, or synced as a whole, afterwards.
    pub volatile: bool,
}

/// One process: the first or an exec's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments. The program is looked up in the `PATH` of `env` unless it has a slash.
    pub args: Vec<String>,
    /// `NAME=value` each. `HOME` is added from the user's passwd entry if absent.
    pub env: Vec<String>,
    /// The working directory, made if absent.
    pub cwd: String,
    /// `user`, `user:group`, `uid` or `uid:gid`, looked up in the container's own passwd and group; empty is root.
    pub user: String,
    /// Supplementary groups besides those of the group file.
    pub groups: Vec<String>,
    /// Give it a pseudo-terminal instead of pipes.
    pub terminal: bool,
    /// Keep its standard input open for attached clients instead of /dev/null.
    pub stdin: bool,
    /// It stays open when a client has said all, for the next.
    #[serde(default)]
    pub stdin_stays: bool,
}

/// Whether a namespace is the container's own or the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// A new one.
    Private,
    /// The host's.
    Host,
    /// Another container's: see [`crate::Joined`].
    Joined,
}

/// The container's namespaces besides that of mounts, which is always its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Interfaces; a private one is handed to the launcher for wiring before the first process starts.
    pub network: Namespace,
    /// Process ids.
    pub pid: Namespace,
    /// System V IPC, message queues and /dev/shm.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// What of the cgroup hierarchies it sees as their root.
    pub cgroup: Namespace,
}

impl Default for Namespaces {
    fn default() -> Self {
        let private = Namespace::Private;
        Self { network: private, pid: private, ipc: private, uts: private, cgroup: private }
    }
}

/// A private user namespace (user_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNamespace {
    /// User ids.
    pub uids: Vec<IdMapping>,
    /// Group ids.
    pub gids: Vec<IdMapping>,
}

/// One line of uid_map or gid_map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Something mounted at a path of the container. The path is resolved within the container's root, whatever
/// symbolic links its image has; what is missing is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, absolute.
    pub target: PathBuf,
    /// What.
    pub source: MountSource,
    /// No writes through it.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the host.
    Bind {
        /// Absolute path; must exist.
        source: PathBuf,
        /// With everything mounted below it.
        recursive: bool,
        /// How later mounts reach the other side.
        propagation: Propagation,
    },
    /// A file or directory below one of the host, on the way to which no link leads out.
    Within {
        /// A directory, absolute; must exist.
        base: PathBuf,
        /// What is mounted, from there; must exist.
        path: PathBuf,
    },
    /// A file system of the kernel's.
    FileSystem {
        /// Its type, as mount(8) has it.
        kind: String,
        /// What it is on.
        device: String,
        /// Its options; the value is empty where there is none.
        options: Vec<(String, String)>,
    },
    /// An empty in-memory file system.
    Tmpfs {
        /// Bytes; `None` is half the memory, the kernel's default.
        size: Option<u64>,
        /// Permission bits of its root.
        mode: u32,
        /// What may be done in it.
        allowed: Allowed,
        /// Further options of the file system.
        settings: BTreeMap<String, String>,
    },
    /// A private, writable view of directories that stay as they are. In it root's files, and the directory itself,
    /// belong to the container's user ([`Spec::process`]'s).
    Overlay {
        /// Read-only directories, topmost first.
        lower: Vec<PathBuf>,
        /// Takes the changes.
        upper: PathBuf,
        /// Overlayfs's scratch directory, on the same file system as `upper`.
        work: PathBuf,
    },
}

/// What a file system may be used for besides its files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// Programs in it may be executed.
    pub exec: bool,
    /// Its device nodes may be used.
    pub devices: bool,
    /// Set-user-ID programs in it have an effect.
    pub set_user_id: bool,
}

/// Mount propagation (mount_namespaces(7)), as in Docker's `bind-propagation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way; Docker's default.
    #[default]
    Private,
    /// From the host to the container.
    Slave,
    /// Both ways.
    Shared,
}

/// What the container's processes may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// The bounding, effective and permitted set of root's processes; other users start with none of them.
    pub capabilities: Capabilities,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Set-user-ID programs and file capabilities have no effect.
    pub no_new_privileges: bool,
    /// Paths hidden under /dev/null or an empty directory.
    pub masked_paths: Vec<PathBuf>,
    /// Paths that cannot be written.
    pub read_only_paths: Vec<PathBuf>,
    /// Device nodes to make besides the standard ones, and to allow.
    pub devices: Vec<Device>,
    /// Devices to allow besides, of which no nodes are made.
    #[serde(default)]
    pub device_rules: Vec<DeviceRule>,
    /// Allow every device.
    pub all_devices: bool,
    /// Mount /sys and the cgroup file system writable.
    pub writable_sys: bool,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            capabilities: Capabilities::default_set(),
            seccomp: Seccomp::Default,
            no_new_privileges: false,
            masked_paths: MASKED_PATHS.iter().map(PathBuf::from).collect(),
            read_only_paths: READ_ONLY_PATHS.iter().map(PathBuf::from).collect(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            all_devices: false,
            writable_sys: false,
        }
    }
}

/// What Docker 28 hides (moby `oci/defaults.go`).
const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// What Docker makes read-only (moby `oci/defaults.go`).
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Which system calls are filtered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Docker's default allow-list, as far as the capabilities do not widen it.
    Default,
    /// None.
    Unconfined,
    /// By a profile in Docker's format, JSON.
    Profile(String),
}

/// A device node of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where, absolute.
    pub path: PathBuf,
    /// Block instead of character device.
    pub block: bool,
    /// Device number, major part.
    pub major: u32,
    /// Device number, minor part.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Its user and group.
    #[serde(default)]
    pub owner: (u32, u32),
    /// What the device cgroup allows.
    pub access: DeviceAccess,
}

/// Devices that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Block instead of character devices.
    pub block: bool,
    /// Device number, major part; `None` is any.
    pub major: Option<u32>,
    /// Device number, minor part; `None` is any.
    pub minor: Option<u32>,
    /// How.
    pub access: DeviceAccess,
}

/// Reading, writing and making of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Make nodes of it.
    pub mknod: bool,
}

impl DeviceAccess {
    /// All three.
    pub const ALL: Self = Self { read: true, write: true, mknod: true };
}

/// Limits; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together in bytes; `None` with a memory limit allows as much swap again, as Docker does.
    pub memory_swap: Option<u64>,
    /// CPUs, in billionths of one.
    pub nano_cpus: Option<u64>,
    /// Relative weight among containers, 2 to 262144; 1024 is normal.
    pub cpu_shares: Option<u64>,
    /// CPUs to run on, as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Memory that is left to it while others want some, in bytes.
    #[serde(default)]
    pub memory_reservation: Option<u64>,
    /// How readily the kernel swaps its memory out, 0 to 100; v1 alone.
    #[serde(default)]
    pub swappiness: Option<u64>,
    /// Have its processes wait for memory rather than kill one; v1 alone.
    #[serde(default)]
    pub oom_kill_disable: bool,
    /// Microseconds of CPU time in each period.
    #[serde(default)]
    pub cpu_quota: Option<u64>,
    /// The period's length in microseconds.
    #[serde(default)]
    pub cpu_period: Option<u64>,
    /// Memory nodes, as `0-1`.
    #[serde(default)]
    pub cpuset_mems: Option<String>,
    /// Reading and writing of disks.
    #[serde(default)]
    pub block_io: BlockIo,
    /// Per-process limits by their name without `RLIMIT_`, lower case: soft and hard value.
    pub rlimits: BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// The kernel's preference to kill it when memory runs out, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
}

/// Limits of disks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockIo {
    /// Relative weight among containers, 10 to 1000.
    pub weight: Option<u64>,
    /// The same for single disks.
    pub weights: Vec<BlockLimit>,
    /// Bytes read a second.
    pub read_bytes: Vec<BlockLimit>,
    /// Bytes written a second.
    pub write_bytes: Vec<BlockLimit>,
    /// Reads a second.
    pub reads: Vec<BlockLimit>,
    /// Writes a second.
    pub writes: Vec<BlockLimit>,
}

/// A limit of one disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockLimit {
    /// Its device node on the host.
    pub path: PathBuf,
    /// The limit.
    pub value: u64,
}

/// A json-file log, in Docker's format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The current file; older ones are `<path>.1`, `<path>.2`, …
    pub path: PathBuf,
    /// Bytes after which a new file begins; `None` never.
    pub max_size: Option<u64>,
    /// How many files are kept, the current one included; at least 1.
    pub max_files: u32,
    /// Stand in every entry.
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
    /// Where the lines go as well.
    #[serde(default)]
    pub forward: Option<Forward>,
}

/// The DNS responder's sources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsConfig {
    /// Files of `name address` lines, one a network, re-read when they change.
    pub names: Vec<PathBuf>,
    /// Names that stand for others in this container alone.
    pub aliases: BTreeMap<String, String>,
    /// Resolvers that other names are passed on to, from the host's network namespace.
    pub upstream: Vec<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_what_docker_masks() {
        let security = Security::default();
        assert!(security.masked_paths.contains(&PathBuf::from("/proc/kcore")));
        assert!(security.read_only_paths.contains(&PathBuf::from("/proc/sys")));
    }
}
