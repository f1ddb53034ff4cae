//! One container as processes: supervisor, namespaces, mounts, cgroups, exec, logs.

pub mod dns;
