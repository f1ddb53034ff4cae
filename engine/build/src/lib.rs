//! A Dockerfile into an image: parse, graph of stages, cache, execute.
//!
//! [`build`] reads the Dockerfile, builds the stages that the target needs, independent ones at the same time, and
//! stores the image. Commands run through a [`Sandbox`], which the engine's core implements; nothing here starts a
//! process or mounts anything. `COPY`, `ADD` and `WORKDIR` write into the new layer directly.
//!
//! The syntax is read by `parse-dockerfile` 0.1.9, whose shortcomings are filled in around it (`dockerfile/`): its
//! columns (they are offsets), here-documents of `RUN` that do not stand first, several of them, the names of
//! those of `COPY`, `ENTRYPOINT []`, continued lines of commands, the pairs of `ENV`, `LABEL` and `ARG`; it does not
//! expand variables.
//!
//! Not there yet, and refused by name: `RUN --mount`, `--network`, `--security`; `ADD` of addresses;
//! `COPY --parents`, `--exclude`; platforms other than this machine's.

mod build;
mod cache;
mod cancel;
mod change;
mod config;
mod diagnostic;
mod dockerfile;
mod error;
mod expand;
mod files;
mod gather;
mod ignore;
mod layers;
mod owner;
mod pattern;
mod plan;
mod platform;
mod request;
mod rootfs;
mod sandbox;
mod stage;
mod write;

pub use build::build;
pub use cache::{CachedStep, cached_steps, forget_step};
pub use change::change_config;
pub use diagnostic::{Diagnostic, Location};
pub use dockerfile::parse_duration;
pub use error::{BuildError, Problem};
pub use ignore::Ignore;
pub use request::{BuildEvent, BuildRequest, Built, Step};
pub use sandbox::{PROGRAMS_DIR, RunStep, Sandbox, SandboxError, Stream};

#[cfg(test)]
mod tests;
