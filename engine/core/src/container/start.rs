//! From a container that is made to one that runs, and what is then asked of it.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use engine_network::{AttachError, EndpointSpec, IfName, PublishedPort, Switch, Withdrawal};
use engine_runtime::spec::{HostCommand, Process as ProcessSpec, Spec};
use engine_runtime::{Client, ClientError, ExecStreams, Joined, NamespacesOf, Running, Starting, StdStreams};
use engine_types::ContainerId;

use super::{ContainerConfig, IpcMode, MountKind, NamespaceMode, NetworkMode, Place, not_running};
use crate::catalog::from_json;
use crate::engine::{Engine, blocking};
use crate::error::{At, Error};
use crate::process::Process;
use crate::starts;

impl Engine {
    /// Starts a container; returns once its program runs.
    pub async fn start_container(&self, key: &str, streams: StdStreams) -> Result<Process, Error> {
        let row = self.catalog().container(key).await?;
        let config: ContainerConfig = from_json(&row.config)?;
        let id = row.id;
        let joined = self.join(&config).await?;
        let links = self.linked(&row.name, &config.links).await?;
        let places = self.take_places(&row, &config).await?;
        for mount in &config.mounts {
            if let MountKind::Volume(name) = &mount.kind {
                self.create_volume(name, config.session).await?;
            }
        }
        let way_out = places.iter().find(|place| place.leads_out).cloned();
        let reserved = match &way_out {
            Some(place) => self.reserve_ports(&config, &place.network).await?,
            None => None,
        };
        let ports = reserved.as_ref().map(|r| r.ports.clone());
        let (engine, address) = (self.clone(), way_out.as_ref().map(|place| place.address));
        let preparing = blocking(move || {
            let mut spec = engine.spec(&row, &config, &places, &links)?;
            if let Some((ports, address)) = ports.zip(address) {
                spec.cleanup = Some(engine.withdrawal(address, &ports)?);
            }
            engine.prepare(&spec, streams, &places, &joined)
        });
        let prepared = preparing.await?;
        let running = match (reserved, way_out) {
            (Some(reserved), Some(Place { network, address, .. })) => {
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

    /// What a container has of others, which have to run.
    async fn join(&self, config: &ContainerConfig) -> Result<Joined, Error> {
        let mut joined = Joined::default();
        if let NetworkMode::Container(other) = config.network {
            let network = self.namespaces_of(other, "network").await?.network;
            joined.network =
                Some(network.ok_or(Error::JoinNotRunning { what: "network", container: other })?);
        }
        if let NamespaceMode::Container(other) = config.pid {
            let init = self.namespaces_of(other, "PID").await?.init;
            joined.pid = Some(init.ok_or(Error::JoinNotRunning { what: "PID", container: other })?);
        }
        if let IpcMode::Container(other) = config.ipc {
            let init = self.namespaces_of(other, "IPC").await?.init;
            joined.ipc = Some(init.ok_or(Error::JoinNotRunning { what: "IPC", container: other })?);
        }
        Ok(joined)
    }

    async fn namespaces_of(&self, other: ContainerId, what: &'static str) -> Result<NamespacesOf, Error> {
        let run_dir = self.run_dir(other);
        match blocking(move || Client::connect(&run_dir)?.namespaces()).await {
            Err(ClientError::NotRunning) => Err(Error::JoinNotRunning { what, container: other }),
            result => Ok(result?),
        }
    }

    /// Has the runtime make a container, wires it and runs its program.
    pub(crate) fn launch(
        &self,
        spec: &Spec,
        streams: StdStreams,
        places: &[Place],
    ) -> Result<Running, Error> {
        self.prepare(spec, streams, places, &Joined::default())?.proceed(None)
    }

    /// Has the runtime make a container and wires it. The bridges of networks of which this is the first container since
    /// the machine started are made meanwhile.
    fn prepare(
        &self,
        spec: &Spec,
        streams: StdStreams,
        places: &[Place],
        joined: &Joined,
    ) -> Result<Prepared, Error> {
        let (starting, switches) = std::thread::scope(|scope| {
            let bridges: Vec<_> =
                places.iter().map(|place| scope.spawn(|| self.ensure_bridge(&place.network))).collect();
            let starting = self.launcher().start(spec, streams, joined);
            let mut switches = Vec::new();
            for bridge in bridges {
                switches.push(bridge.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok::<_, Error>((starting?, switches))
        })?;
        if let Some(namespace) = starting.network_namespace() {
            for (number, (place, switch)) in places.iter().zip(&switches).enumerate() {
                let interface = (IfName::eth(number), spec.cleanup.is_some() && place.leads_out);
                self.attach(spec.id, place, interface, switch.as_deref(), namespace)?;
            }
            if places.is_empty() {
                self.driver().loopback_up(namespace)?;
            }
        }
        // Networks with a switch are their session's alone, and so is the one that a container has.
        Ok(Prepared { starting, switch: switches.into_iter().flatten().next() })
    }

    /// Gives a container an interface of this name; `hairpin` says that it reaches its own published ports by it.
    pub(crate) fn attach(
        &self,
        id: ContainerId,
        place: &Place,
        (container_ifname, hairpin): (IfName, bool),
        switch: Option<&Switch>,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let network = &place.network;
        let bridge = match switch {
            Some(_) => IfName::switch_bridge(),
            None => self.driver().bridge_name(&network.id),
        };
        let endpoint = EndpointSpec {
            network: network.id,
            bridge,
            isolated: network.config.isolated,
            hairpin,
            host_ifname: IfName::endpoint(&id, &network.id),
            container_ifname,
            mac: place.endpoint.mac,
            address: place.address,
            prefix: network.subnet.prefix_len(),
            gateway: place.leads_out.then_some(network.gateway),
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
