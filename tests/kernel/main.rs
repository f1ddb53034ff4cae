//! Real namespaces, mounts and cgroups. Needs root and fails without.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod exec;
mod health;
mod limits;
mod network;
mod overlay;
mod programs32;
mod restarts;
mod runtime;
