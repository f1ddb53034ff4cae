//! The Docker Engine HTTP API over [`engine::Engine`].
//!
//! A request is parsed into an action (`parse`), acted upon (`act`, where the daemon's state is), and its result is
//! rendered for the version of the API that was asked for (`render`). Every handler in `route` is that chain; what
//! an error means to the client is said in `error` alone.
//!
//! The daemon keeps nothing that matters in memory: containers, their output and their ends belong to supervisors and
//! the catalog. What goes with it is who is attached and the records of execs.

mod act;
mod error;
mod parse;
mod render;
mod route;
mod server;
mod stream;
mod transfer;

pub use server::{Address, AddressError, Listen, ServeError, Server, Tls, TlsError};

/// The newest version of the API that is spoken.
const API_MAX: (u32, u32) = (1, 51);
/// The oldest one.
const API_MIN: (u32, u32) = (1, 24);
