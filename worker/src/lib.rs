//! Runs pipelines on the built-in engine.

pub mod event;
pub mod mask;
pub mod source;
pub mod workspace;

#[cfg(test)]
mod test_git;
