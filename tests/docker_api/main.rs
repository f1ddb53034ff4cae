//! `engine daemon` as clients of Docker see it: through bollard, and by plain HTTP where bollard hides what matters.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod builds;
mod containers;
mod daemon;
mod files;
mod images;
mod listen;
mod live;
mod lives;
mod logging;
mod nested;
mod networks;
mod objects;
mod options;
mod protocol;
mod python;
mod registry;
mod restart;
mod streams;
mod volumes;
