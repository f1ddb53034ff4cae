//! Suites on a real kernel; they need root and fail without it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and its scaffolding with it")]

mod network;
