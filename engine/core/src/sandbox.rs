//! Builds: the sandbox that `engine-build` runs its commands in.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use engine_build::{
    BuildError, BuildEvent, BuildRequest, Built, PROGRAMS_DIR, RunStep, Sandbox, SandboxError, Stream,
};
use engine_image::{Image, PullEvent, PullOptions};
use engine_runtime::spec::{
    DnsConfig, Mount, MountSource, Namespace, Namespaces, Process as ProcessSpec, Propagation, Resources,
    Rootfs, Security, Spec,
};
use engine_runtime::{RestartPolicy, StdStreams};
use engine_types::{ContainerId, ErrorKind, Reference, SessionId};
use tokio::net::unix::pipe;
use tokio::sync::OnceCell;

use crate::catalog::{ContainerRow, to_json};
use crate::container::{ContainerConfig, EndpointConfig, NetworkMode, Place};
use crate::engine::{Engine, blocking, random};
use crate::error::{At, Error};
use crate::etc::Etc;
use crate::network::{Network, NetworkConfig};
use crate::process::Process;

/// Bytes of output taken at once.
const READ_SIZE: usize = 64 * 1024;

/// How a build's commands are connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BuildNetwork {
    /// By a bridge: [`BuildSandbox::network`].
    #[default]
    Bridge,
    /// As the host is.
    Host,
    /// Not at all.
    None,
}

/// What a build's commands have that no Dockerfile says.
#[derive(Debug, Clone, Default)]
pub struct BuildCommands {
    /// How they are connected.
    pub network: BuildNetwork,
    /// What they may use.
    pub resources: Resources,
    /// `name address` pairs for /etc/hosts.
    pub extra_hosts: Vec<(String, String)>,
    /// Size of /dev/shm in bytes; 64 MiB if absent.
    pub shm_size: Option<u64>,
}

/// Where a build's commands run and its images come from.
pub struct BuildSandbox<'a> {
    /// The engine.
    pub engine: &'a Engine,
    /// What everything is made in.
    pub session: SessionId,
    /// The network of the commands, which builds may share; made for the session when the first command runs, if it is
    /// not there.
    pub network: &'a OnceCell<Network>,
    /// What else the commands have.
    pub commands: BuildCommands,
    /// How images are pulled.
    pub pull: PullOptions,
    /// Is told how pulls come along: the image's name and what happens.
    pub on_pull: &'a (dyn Fn(&str, PullEvent) + Sync),
}

impl Engine {
    /// Builds an image of a Dockerfile. Dropping the future kills what runs; the session's end removes the rest.
    pub async fn build(
        &self,
        request: &BuildRequest,
        sandbox: &BuildSandbox<'_>,
        progress: &(dyn Fn(BuildEvent) + Sync),
    ) -> Result<Built, BuildError> {
        let built = engine_build::build(self.images(), sandbox, request, progress).await?;
        if built.cached < built.steps
            && let Err(error) = self.bound_build_cache().await
        {
            // The next build tries again.
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(error, "the build cache may be larger than it should be");
        }
        Ok(built)
    }

    /// Where results of build steps are remembered.
    pub fn build_cache(&self) -> PathBuf {
        self.paths().root.join("build-cache")
    }
}

impl Sandbox for BuildSandbox<'_> {
    async fn run(&self, step: RunStep<'_>) -> Result<i32, SandboxError> {
        self.run_step(&step).await.map_err(|e| SandboxError::new(e.kind(), e))
    }

    async fn image(&self, reference: &Reference, pull: bool) -> Result<Image, SandboxError> {
        if !pull {
            match self.engine.images().resolve(&reference.to_string()) {
                Ok(image) => return Ok(image),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(SandboxError::new(e.kind(), e)),
            }
        }
        let name = reference.to_string();
        let pulled =
            self.engine.images().pull(reference, &self.pull, &|event| (self.on_pull)(&name, event)).await;
        pulled.map_err(|e| SandboxError::new(e.kind(), e))
    }
}

impl BuildSandbox<'_> {
    async fn run_step(&self, step: &RunStep<'_>) -> Result<i32, Error> {
        let id = ContainerId::from_random(random()?);
        let spec = self.spec(id, step).await?;
        let (stdout, mut out) = output_pipe().at(&spec.state_dir)?;
        let (stderr, mut err) = output_pipe().at(&spec.state_dir)?;
        let null = fs::File::open("/dev/null").at("/dev/null")?;
        let streams = StdStreams::Direct([null.into(), stdout, stderr]);
        let process = self.start(spec, streams).await?;
        (step.mounted)();
        let copied = tokio::join!(
            copy(&mut out, |bytes| (step.output)(Stream::Stdout, bytes)),
            copy(&mut err, |bytes| (step.output)(Stream::Stderr, bytes)),
            process.wait(),
        );
        let state_dir = self.engine.state_dir(id);
        copied.0.and(copied.1).at(&state_dir)?;
        let exit = copied.2.at(&state_dir)?;
        self.engine.remove_container(&id.to_string(), true).await?;
        Ok(exit.code)
    }

    async fn start(&self, spec: Spec, streams: StdStreams) -> Result<Process, Error> {
        let (engine, id, state_dir) = (self.engine.clone(), spec.id, spec.state_dir.clone());
        if self.commands.network != BuildNetwork::Bridge {
            return Process::new(blocking(move || engine.launch(&spec, streams, &[])).await?).at(state_dir);
        }
        let network = self.network().await?.clone();
        engine.adopt_switch(&network).await?;
        let address = engine.catalog().allocate_address(id, network.id, &[], network.candidates()).await?;
        let address = address.ok_or_else(|| Error::NoFreeAddress(network.name.clone()))?;
        let running = blocking(move || {
            let mut place = Place::new(EndpointConfig::default(), network, address);
            place.leads_out = !place.network.config.internal;
            engine.launch(&spec, streams, &[place])
        });
        Process::new(running.await?).at(state_dir)
    }

    async fn network(&self) -> Result<&Network, Error> {
        let name = format!("{}-build", self.session.short());
        let config = NetworkConfig { name, session: Some(self.session), ..NetworkConfig::default() };
        self.network.get_or_try_init(|| self.engine.create_network(config)).await
    }

    /// A row for the catalog, so that a sweep finds it, and what the runtime is to make.
    async fn spec(&self, id: ContainerId, step: &RunStep<'_>) -> Result<Spec, Error> {
        let engine = self.engine;
        let network = match self.commands.network {
            BuildNetwork::Bridge => {
                let network = self.network().await?.id.to_string();
                NetworkMode::Network { network, aliases: Vec::new() }
            }
            BuildNetwork::Host => NetworkMode::Host,
            BuildNetwork::None => NetworkMode::None,
        };
        let connected = self.commands.network == BuildNetwork::Bridge;
        let on_host = self.commands.network == BuildNetwork::Host;
        let image = engine_types::ImageId(engine_types::Digest::from_sha256([0; 32]));
        let extra_hosts = self.commands.extra_hosts.clone();
        let session = Some(self.session);
        let config = ContainerConfig { network, extra_hosts, session, ..ContainerConfig::new(image) };
        let row = ContainerRow {
            id,
            name: format!("build-{}", id.short()),
            config: to_json(&config)?,
            created: jiff::Timestamp::now(),
        };
        let inserted = engine.catalog().insert_container(&row, "build", Some(self.session)).await?;
        inserted.map_err(|holder| Error::NameInUse { what: "container", name: row.name.clone(), holder })?;
        let (state_dir, run_dir) = (engine.state_dir(id), engine.run_dir(id));
        let empty = state_dir.join("empty");
        for dir in [&empty, &run_dir] {
            fs::create_dir_all(dir).at(dir)?;
        }
        let resolv_conf = engine.resolv_conf()?;
        let (hostname, addresses, links) = ("buildkitsandbox", Vec::new(), &[]);
        let etc = Etc {
            gateway: None,
            hostname,
            addresses,
            links,
            own_resolver: connected,
            resolv_conf: &resolv_conf,
        };
        let mut mounts = engine.etc_files(&state_dir, &config, &etc)?;
        for (name, content) in step.programs {
            mounts.push(program(&state_dir.join("programs"), name, content)?);
        }
        // Overlayfs wants one directory below; an image made from scratch has none.
        let layers = if step.layers.is_empty() { vec![empty] } else { step.layers.to_vec() };
        Ok(Spec {
            id,
            rootfs: Rootfs {
                layers,
                upper: step.upper.to_owned(),
                work: step.work.to_owned(),
                read_only: false,
                volatile: true,
            },
            process: ProcessSpec {
                args: step.args.to_vec(),
                env: crate::spec::with_default_path(step.env),
                cwd: step.cwd.to_owned(),
                user: step.user.to_owned(),
                ..ProcessSpec::default()
            },
            init: false,
            hostname: "buildkitsandbox".to_owned(),
            domainname: String::new(),
            mounts,
            namespaces: Namespaces {
                network: if on_host { Namespace::Host } else { Namespace::Private },
                ..Namespaces::default()
            },
            user_namespace: None,
            security: Security::default(),
            resources: self.commands.resources.clone(),
            sysctls: std::collections::BTreeMap::new(),
            shm_size: self.commands.shm_size.unwrap_or(64 << 20),
            log: None,
            dns: connected
                .then(|| DnsConfig { upstream: crate::spec::upstream(&resolv_conf), ..DnsConfig::default() }),
            tether: true,
            cgroup_parent: engine.cgroup_parent(),
            restart: RestartPolicy::No,
            health: None,
            cleanup: None,
            state_dir,
            run_dir,
        })
    }
}

/// Writes a program of the build where it is mounted from.
fn program(dir: &Path, name: &str, content: &str) -> Result<Mount, Error> {
    let path = dir.join(name);
    fs::create_dir_all(dir).at(dir)?;
    fs::write(&path, content).at(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).at(&path)?;
    let target = Path::new(PROGRAMS_DIR).join(name);
    let source = MountSource::Bind { source: path, recursive: false, propagation: Propagation::Private };
    Ok(Mount { target, source, read_only: true })
}

fn output_pipe() -> io::Result<(OwnedFd, pipe::Receiver)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(read.as_fd(), true)?;
    Ok((write, pipe::Receiver::from_owned_fd(read)?))
}

async fn copy(reader: &mut pipe::Receiver, take: impl Fn(&[u8])) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            length => take(&buffer[..length]),
        }
    }
}
