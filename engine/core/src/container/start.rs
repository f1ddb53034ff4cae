//! From a container that is made to one that runs, and what is then asked of it.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use engine_network::{AttachError, EndpointSpec, IfName, PublishedPort, Switch, Withdrawal};
use engine_runtime::spec::{HostCommand, Process as ProcessSpec, Spec};
use engine_runtime::{Client, ExecStreams, Running, Starting, StdStreams};
use engine_types::ContainerId;

use super::{ContainerConfig, MountKind, NetworkMode, not_running};
use crate::catalog::{ContainerRow, from_json};
use crate::engine::{Engine, blocking};
use crate::error::{At, Error};
use crate::network::Network;
use crate::process::Process;
use crate::starts;

impl Engine {
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
        match starts::announce(&self.run_dir(id)) {
            // It has ended, and was removed, already.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            result => result.at(self.run_dir(id))?,
        }
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
