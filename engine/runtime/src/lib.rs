//! One container as processes: supervisor, namespaces, mounts, cgroups, seccomp, exec, logs.
//!
//! A launcher ([`launch`]) starts a supervisor for each container, a small process of its own
//! (`lighter-supervisor`), which makes the container, outlives the launcher, and is talked to by a [`Client`].
//! Synchronous throughout.

mod capabilities;
mod cgroup;
mod client;
pub mod dns;
mod error;
mod health;
mod launch;
pub mod log;
mod protocol;
mod restart;
mod seccomp;
mod setup;
pub mod spec;
mod state;
pub mod supervisor;

pub use capabilities::{Capabilities, UnknownCapability};
pub use cgroup::{BlockIo, CpuUsage, Hierarchies, MemoryUsage, Meter, Usage};
pub use client::{
    Claim, Client, ClientError, ExecStreams, Exit, Following, Happening, HealthWatch, NamespacesOf, Running,
    Waiting, claim, is_alive,
};
pub use error::{SetupError, Step};
pub use health::{Health, HealthCheck, HealthStatus, ProbeResult};
pub use launch::{Joined, LaunchError, Launcher, Starting, StdStreams};
pub use restart::{ParseRestartPolicyError, RestartPolicy};
pub use setup::{User, assemble, assemble_to_read, resolve_user};
pub use state::{State, StateError, Status};
