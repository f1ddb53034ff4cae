//! Processes that die at the worst moment, and what is left of them: nothing. Needs root and fails without.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

mod disk;
mod kill;
mod left;
mod machine;
mod power_cut;
mod slow_registry;
mod supervisor;
