//! The container engine: containers, images, volumes and networks over one catalog.
//!
//! [`Engine::open`] works in any process, without a daemon; several processes may hold the same root open at once.
//! What one of them makes for itself alone it makes in a [`Session`], which the others take down once it is dead.
//!
//! On disk, below the root: `catalog.db` (SQLite: names, configurations, addresses), `images/` (see `engine-image`),
//! `containers/<id>/` (writable layer, state, log), `volumes/<name>/_data`, `sessions/<id>/` (scratch). Below the run
//! directory: `containers/<id>/` (socket and lock of the supervisor), `networks/<id>/names` (what its DNS answers),
//! `sessions/<id>.lock`.

/// Dockerfiles.
pub use engine_build as build;
/// The image store, archives and registries.
pub use engine_image as image;
/// One container as processes.
pub use engine_runtime as runtime;
/// Ids, digests, references.
pub use engine_types as types;

/// Published ports, and addresses.
pub use engine_network::{Ipv4Net, PortMapping, Protocol, PublishedPort, SubnetPool};
/// How much of what was sent has not been read.
pub use engine_sys::socket::unread_by_peer;

mod after_boot;
mod build_cache;
mod catalog;
mod changes;
mod commit;
mod container;
mod devices;
mod engine;
mod error;
mod etc;
mod events;
mod files;
mod health;
mod images;
pub mod log;
mod log_driver;
mod logs;
mod mounts;
mod names;
mod network;
mod ports;
mod process;
mod sandbox;
mod session;
mod settings;
mod signal;
mod spec;
mod starts;
mod volume;

pub use build_cache::{CachedLayer, beyond};
pub use changes::{Change, ChangeKind};
pub use commit::{Commit, change};
pub use container::{
    Container, ContainerConfig, DeviceMapping, EndpointConfig, HOST_GATEWAY, IpcMode, Link, Mount, MountKind,
    MountOptions, NamespaceMode, NetworkMode, Program,
};
pub use engine::Engine;
pub use error::{Error, remedy};
pub use events::{Event, EventKind};
pub use files::{ContainerFiles, ExportRoot, FilesError, PathStat};
pub use health::{HealthCheckError, resolve_health};
pub use images::RemovedImage;
pub use log_driver::{LogDriver, LogDriverError};
pub use logs::Logs;
pub use network::{Network, NetworkConfig};
pub use ports::{ExposedPort, ParsePortError, parse_exposed, parse_published};
pub use process::{End, Follow, Process};
pub use sandbox::{BuildCommands, BuildNetwork, BuildSandbox};
pub use session::Session;
pub use settings::{DnsSettings, Settings};
pub use signal::signal_number;
pub use starts::Starts;
pub use volume::{Volume, VolumeOptionError};
