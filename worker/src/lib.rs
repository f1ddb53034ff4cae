//! Runs pipelines on the built-in engine.

pub mod event;
pub mod mask;
