//! Runs the jobs of a plan on the engine.
//!
//! [`run`] drives the schedule, `job` one job through its attempts, `attempt` one attempt: network, services,
//! container, steps, post steps, what is kept. Everything an attempt makes is taken down at its end, whatever the end
//! was; what a killed worker leaves, its session's sweep takes down.

mod attempt;
mod containers;
mod images;
mod job;
mod run;
mod service;
mod step;
mod stop;

pub use job::{JobReport, StepReport};
pub use run::{RunReport, Settings, run};
pub use stop::{Stop, StopHandle, stop_pair};
