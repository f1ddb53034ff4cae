//! The parts together, on the real kernel and with real tools. Needs root, docker-registry and skopeo.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bad_input;
mod checkout;
mod client;
mod cp;
mod examples;
mod health;
mod host;
mod interrupt;
mod ports;
mod registry;
mod restarts;
mod secrets;
mod services;
mod sources;
mod steps;
mod tls;
mod users;
