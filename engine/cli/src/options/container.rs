use std::path::PathBuf;

use anyhow::{bail, ensure};
use serde_json::{Map, Value, json};

use super::health::HealthOptions;
use super::network::NetworkOptions;
use super::ports::Ports;
use super::volume::{self, Volume};
use super::{Members, devices, environment, labels, mount, pairs, security};
use crate::streams;
use crate::units::parse_size;

/// What a container is to be, with its image and command.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ContainerOptions {
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    pub(crate) name: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    pub(crate) platform: Option<String>,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "string", default_value = "missing")]
    pub(crate) pull: String,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Automatically remove the container and its associated anonymous volumes when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Attach to STDIN, STDOUT or STDERR
    #[arg(short, long, value_name = "list", value_parser = attached)]
    pub(crate) attach: Vec<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<PathBuf>,
    /// Set meta data on a container
    #[arg(short, long, value_name = "list")]
    label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    label_file: Vec<PathBuf>,
    /// Add an annotation to the container (passed through to the OCI runtime)
    #[arg(long, value_name = "map")]
    annotation: Vec<String>,
    /// Overwrite the default ENTRYPOINT of the image
    #[arg(long, value_name = "string")]
    entrypoint: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
    /// Username or UID (format: <name|uid>[:<group|gid>])
    #[arg(short, long, value_name = "string")]
    user: Option<String>,
    /// Add additional groups to join
    #[arg(long, value_name = "list")]
    group_add: Vec<String>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string")]
    hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string")]
    domainname: Option<String>,
    /// Signal to stop the container
    #[arg(long, value_name = "string")]
    stop_signal: Option<String>,
    /// Timeout (in seconds) to stop a container
    #[arg(long, value_name = "int")]
    stop_timeout: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string", default_value = "no")]
    restart: String,
    /// Run an init inside the container that forwards signals and reaps processes
    #[arg(long)]
    init: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "string")]
    runtime: Option<String>,
    /// Container isolation technology
    #[arg(long, value_name = "string")]
    isolation: Option<String>,
    /// Bind mount Docker API socket and required auth
    #[arg(long, hide = true)]
    use_api_socket: bool,
    #[command(flatten)]
    storage: StorageOptions,
    #[command(flatten)]
    publish: PublishOptions,
    #[command(flatten)]
    network: NetworkOptions,
    #[command(flatten)]
    health: HealthOptions,
    #[command(flatten)]
    isolate: IsolationOptions,
    #[command(flatten)]
    resources: ResourceOptions,
    #[command(flatten)]
    devices: DeviceOptions,
    #[command(flatten)]
    log: LogOptions,
}

#[derive(Debug, Default, clap::Args)]
struct StorageOptions {
    /// Bind mount a volume
    #[arg(short, long, value_name = "list")]
    volume: Vec<String>,
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount", value_parser = mount::parse)]
    mount: Vec<Value>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list")]
    volumes_from: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "string")]
    volume_driver: Option<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list")]
    tmpfs: Vec<String>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    read_only: bool,
    /// Storage driver options for the container
    #[arg(long, value_name = "list")]
    storage_opt: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "bytes", value_parser = parse_size)]
    shm_size: Option<i64>,
}

#[derive(Debug, Default, clap::Args)]
struct PublishOptions {
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "list")]
    publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list")]
    expose: Vec<String>,
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", value_parser = extra_host)]
    add_host: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "list", value_parser = address)]
    dns: Vec<String>,
    /// Set DNS options
    #[arg(long, alias = "dns-opt", value_name = "list")]
    dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list")]
    dns_search: Vec<String>,
}

#[derive(Debug, Default, clap::Args)]
struct IsolationOptions {
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "list")]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list")]
    cap_drop: Vec<String>,
    /// Security Options
    #[arg(long, value_name = "list")]
    security_opt: Vec<String>,
    /// Sysctl options
    #[arg(long, value_name = "map")]
    sysctl: Vec<String>,
    /// PID namespace to use
    #[arg(long, value_name = "string")]
    pid: Option<String>,
    /// IPC mode to use
    #[arg(long, value_name = "string")]
    ipc: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "string")]
    uts: Option<String>,
    /// User namespace to use
    #[arg(long, value_name = "string")]
    userns: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "string")]
    cgroupns: Option<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
}

#[derive(Debug, Default, clap::Args)]
struct ResourceOptions {
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = parse_size)]
    memory: Option<i64>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = parse_size)]
    memory_reservation: Option<i64>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", value_parser = swap)]
    memory_swap: Option<i64>,
    /// Tune container memory swappiness (0 to 100)
    #[arg(long, value_name = "int", default_value = "-1")]
    memory_swappiness: i64,
    /// Disable OOM Killer
    #[arg(long)]
    oom_kill_disable: bool,
    /// Tune host's OOM preferences (-1000 to 1000)
    #[arg(long, value_name = "int")]
    oom_score_adj: Option<i64>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int")]
    pids_limit: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = cpus)]
    cpus: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int")]
    cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<i64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_runtime: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Ulimit options
    #[arg(long, value_name = "ulimit", value_parser = devices::ulimit)]
    ulimit: Vec<Value>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "list", value_parser = devices::weight)]
    blkio_weight_device: Vec<Value>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "list", value_parser = devices::bytes_rate)]
    device_read_bps: Vec<Value>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "list", value_parser = devices::bytes_rate)]
    device_write_bps: Vec<Value>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "list", value_parser = devices::operations_rate)]
    device_read_iops: Vec<Value>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "list", value_parser = devices::operations_rate)]
    device_write_iops: Vec<Value>,
}

#[derive(Debug, Default, clap::Args)]
struct DeviceOptions {
    /// Add a host device to the container
    #[arg(long, value_name = "list")]
    device: Vec<String>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "list", value_parser = devices::cgroup_rule)]
    device_cgroup_rule: Vec<String>,
    /// GPU devices to add to the container ('all' to pass all GPUs)
    #[arg(long, value_name = "gpu-request", value_parser = devices::gpus)]
    gpus: Vec<Value>,
}

#[derive(Debug, Default, clap::Args)]
struct LogOptions {
    /// Logging driver for the container
    #[arg(long, value_name = "string")]
    log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "list")]
    log_opt: Vec<String>,
}

fn attached(text: &str) -> Result<String, String> {
    let lower = text.to_lowercase();
    match lower.as_str() {
        "stdin" | "stdout" | "stderr" => Ok(lower),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

pub(crate) fn swap(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { parse_size(text) }
}

/// A number of processors in billionths.
pub(crate) fn cpus(text: &str) -> Result<i64, String> {
    let value: f64 = text.parse().map_err(|_| format!("failed to parse {text} as a rational number"))?;
    let billionths = value * 1e9;
    if (billionths - billionths.round()).abs() > 1e-3 {
        return Err("value is too precise".to_owned());
    }
    Ok(billionths.round() as i64)
}

/// Checks `NAME=value`, or a name.
pub(crate) fn variable(text: &str) -> Result<String, String> {
    match text.split('=').next() {
        None | Some("") => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(text.to_owned()),
    }
}

/// Checks `host:address`; an equals sign does as well.
fn extra_host(text: &str) -> Result<String, String> {
    let bad = || format!("bad format for add-host: {text:?}");
    let (host, address) = text.split_once(['=', ':']).ok_or_else(bad)?;
    if host.is_empty() {
        return Err(bad());
    }
    let plain = address.trim_start_matches('[').trim_end_matches(']');
    if address != "host-gateway" && plain.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(format!("{host}:{plain}"))
}

fn address(text: &str) -> Result<String, String> {
    match text.trim().parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
    }
}

impl ContainerOptions {
    /// Which of the container's streams are to be here: input, output, errors.
    pub(crate) fn attached(&self) -> [bool; 3] {
        let named = |name: &str| self.attach.iter().any(|stream| stream == name);
        let all = self.attach.is_empty();
        [self.interactive || named("stdin"), all || named("stdout"), all || named("stderr")]
    }

    /// The body of `containers/create`. Proxies are what the configuration file has containers know.
    pub(crate) fn body(
        &self,
        image: &str,
        command: &[String],
        detach: bool,
        proxies: &[String],
    ) -> anyhow::Result<Value> {
        let [stdin, stdout, stderr] = if detach { [false; 3] } else { self.attached() };
        let (mut ports, mut volumes, mut binds) = (Ports::default(), Map::new(), Vec::new());
        self.publish.publish.iter().try_for_each(|text| ports.publish(text)).map_err(anyhow::Error::msg)?;
        self.publish.expose.iter().try_for_each(|text| ports.expose(text)).map_err(anyhow::Error::msg)?;
        for spec in &self.storage.volume {
            match volume::parse(spec)? {
                Volume::Bind(bind) => binds.push(bind),
                Volume::Anonymous(target) => drop(volumes.insert(target, json!({}))),
            }
        }
        let entrypoint = self.entrypoint.as_ref().map(|program| json!([program]));
        let mut env = environment(&self.env_file, &self.env)?;
        let known = |name: &str| env.iter().any(|entry| entry.split('=').next() == Some(name));
        let more: Vec<_> =
            proxies.iter().filter(|p| !known(p.split('=').next().unwrap_or(p))).cloned().collect();
        env.extend(more);
        let mut body = Members::default();
        body.put("Hostname", self.hostname.clone())
            .put("Domainname", self.domainname.clone())
            .put("User", self.user.clone())
            .always("AttachStdin", stdin)
            .always("AttachStdout", stdout)
            .always("AttachStderr", stderr)
            .put("ExposedPorts", ports.exposed())
            .always("Tty", self.tty)
            .always("OpenStdin", self.interactive)
            .always("StdinOnce", self.interactive && stdin)
            .put("Env", env)
            .put("Cmd", command)
            .put("Healthcheck", self.health.body()?)
            .always("Image", image)
            .put("Volumes", volumes)
            .put("WorkingDir", self.workdir.clone())
            .put("Entrypoint", entrypoint)
            .put("Labels", labels(&self.label_file, &self.label)?)
            .put("StopSignal", self.stop_signal.clone());
        if let Some(seconds) = self.stop_timeout {
            body.always("StopTimeout", seconds);
        }
        body.always("HostConfig", self.host_config(&binds, &ports)?);
        let endpoints = self.network.endpoints()?;
        body.always("NetworkingConfig", json!({ "EndpointsConfig": endpoints }));
        Ok(body.into_value())
    }

    fn host_config(&self, binds: &[String], ports: &Ports) -> anyhow::Result<Value> {
        ensure!(!self.use_api_socket, "--use-api-socket is not supported: mount the socket with -v");
        let restart = security::restart_policy(&self.restart)?;
        if self.rm && !matches!(restart["Name"].as_str(), Some("no")) {
            bail!("conflicting options: cannot specify both --restart and --rm");
        }
        let mut host = Members::default();
        let cidfile = self.cidfile.as_ref().map(|path| path.display().to_string());
        host.put("Binds", binds)
            .put("ContainerIDFile", cidfile)
            .always("NetworkMode", self.network.mode())
            .put("PortBindings", ports.bindings())
            .always("RestartPolicy", restart)
            .put("AutoRemove", self.rm)
            .put("Links", self.network.links())
            .put("PublishAllPorts", self.publish.publish_all)
            .put("Dns", json!(self.publish.dns))
            .put("DnsOptions", json!(self.publish.dns_option))
            .put("DnsSearch", json!(self.publish.dns_search))
            .put("ExtraHosts", json!(self.publish.add_host))
            .put("GroupAdd", json!(self.group_add))
            .put("Runtime", self.runtime.clone())
            .put("Isolation", self.isolation.clone())
            .put("Annotations", pairs(&self.annotation));
        if self.init {
            host.always("Init", true);
        }
        if self.tty
            && let Some((rows, columns)) = streams::size()
        {
            host.always("ConsoleSize", json!([rows, columns]));
        }
        self.storage.add(&mut host)?;
        self.isolate.add(&mut host)?;
        self.resources.add(&mut host)?;
        self.devices.add(&mut host)?;
        self.log.add(&mut host)?;
        Ok(host.into_value())
    }
}

impl StorageOptions {
    fn add(&self, host: &mut Members) -> anyhow::Result<()> {
        let tmpfs: Map<String, Value> = self
            .tmpfs
            .iter()
            .map(|text| text.split_once(':').unwrap_or((text, "")))
            .map(|(target, options)| (target.to_owned(), options.into()))
            .collect();
        ensure!(self.storage_opt.iter().all(|text| text.contains('=')), "invalid storage option");
        host.put("Mounts", self.mount.clone())
            .put("VolumesFrom", json!(self.volumes_from))
            .put("VolumeDriver", self.volume_driver.clone())
            .put("Tmpfs", tmpfs)
            .put("ReadonlyRootfs", self.read_only)
            .put("StorageOpt", pairs(&self.storage_opt))
            .put("ShmSize", self.shm_size);
        Ok(())
    }
}

impl IsolationOptions {
    fn add(&self, host: &mut Members) -> anyhow::Result<()> {
        let of_container = |mode: &str| mode.strip_prefix("container:").is_some_and(|name| !name.is_empty());
        let pid = self.pid.as_deref().unwrap_or_default();
        ensure!(matches!(pid, "" | "host") || of_container(pid), "--pid: invalid PID mode");
        ensure!(matches!(self.uts.as_deref(), None | Some("" | "host")), "--uts: invalid UTS mode");
        ensure!(matches!(self.userns.as_deref(), None | Some("" | "host")), "--userns: invalid USER mode");
        let cgroup = self.cgroupns.as_deref();
        ensure!(matches!(cgroup, None | Some("" | "host" | "private")), "--cgroupns: invalid CGROUP mode");
        let (options, open_paths) = security::options(&self.security_opt)?;
        host.put("Privileged", self.privileged)
            .put("CapAdd", json!(self.cap_add))
            .put("CapDrop", json!(self.cap_drop))
            .put("SecurityOpt", options)
            .put("Sysctls", pairs(&self.sysctl))
            .put("PidMode", pid)
            .put("IpcMode", self.ipc.clone())
            .put("UTSMode", self.uts.clone())
            .put("UsernsMode", self.userns.clone())
            .put("CgroupnsMode", cgroup)
            .put("CgroupParent", self.cgroup_parent.clone());
        if open_paths {
            host.always("MaskedPaths", json!([])).always("ReadonlyPaths", json!([]));
        }
        Ok(())
    }
}

impl ResourceOptions {
    fn add(&self, host: &mut Members) -> anyhow::Result<()> {
        let swappiness = self.memory_swappiness;
        ensure!(
            (-1..=100).contains(&swappiness),
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        );
        if swappiness >= 0 {
            host.always("MemorySwappiness", swappiness);
        }
        host.put("Memory", self.memory)
            .put("MemoryReservation", self.memory_reservation)
            .put("MemorySwap", self.memory_swap)
            .put("OomKillDisable", self.oom_kill_disable)
            .put("OomScoreAdj", self.oom_score_adj)
            .put("PidsLimit", self.pids_limit)
            .put("NanoCpus", self.cpus)
            .put("CpuShares", self.cpu_shares)
            .put("CpuPeriod", self.cpu_period)
            .put("CpuQuota", self.cpu_quota)
            .put("CpuRealtimePeriod", self.cpu_rt_period)
            .put("CpuRealtimeRuntime", self.cpu_rt_runtime)
            .put("CpusetCpus", self.cpuset_cpus.clone())
            .put("CpusetMems", self.cpuset_mems.clone())
            .put("Ulimits", self.ulimit.clone())
            .put("BlkioWeight", self.blkio_weight)
            .put("BlkioWeightDevice", self.blkio_weight_device.clone())
            .put("BlkioDeviceReadBps", self.device_read_bps.clone())
            .put("BlkioDeviceWriteBps", self.device_write_bps.clone())
            .put("BlkioDeviceReadIOps", self.device_read_iops.clone())
            .put("BlkioDeviceWriteIOps", self.device_write_iops.clone());
        Ok(())
    }
}

impl DeviceOptions {
    fn add(&self, host: &mut Members) -> anyhow::Result<()> {
        let (mut paths, mut requests, mut names) = (Vec::new(), self.gpus.clone(), Vec::new());
        for text in &self.device {
            if devices::is_cdi(text) {
                names.push(text.clone());
            } else {
                paths.push(devices::device(text).map_err(anyhow::Error::msg)?);
            }
        }
        if !names.is_empty() {
            requests.push(json!({ "Driver": "cdi", "DeviceIDs": names }));
        }
        host.put("Devices", paths)
            .put("DeviceCgroupRules", json!(self.device_cgroup_rule))
            .put("DeviceRequests", requests);
        Ok(())
    }
}

impl LogOptions {
    fn add(&self, host: &mut Members) -> anyhow::Result<()> {
        let driver = self.log_driver.as_deref().unwrap_or_default();
        ensure!(driver != "none" || self.log_opt.is_empty(), "invalid logging opts for driver {driver}");
        if !driver.is_empty() || !self.log_opt.is_empty() {
            host.always("LogConfig", json!({ "Type": driver, "Config": pairs(&self.log_opt) }));
        }
        Ok(())
    }
}
