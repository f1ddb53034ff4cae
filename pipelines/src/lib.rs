//! The `pipeline.yaml` model: parse, check, expand, order.
//!
//! 1. [`Pipeline::parse`] reads a file, or returns [`Diagnostics`] that [`render`] shows.
//! 2. [`On::matches`] says whether an event starts it.
//! 3. [`Pipeline::expand`] makes a [`Plan`] of self-contained [`Job`]s in a [`Context`].
//! 4. [`Schedule`] says when each of them starts, and how the run ended.
//! 5. [`Job::runs_step`], [`Job::post_steps`], [`CacheKey::resolve`] answer what a worker asks on the way.
//! 6. [`json_schema`] describes the file to editors.
//!
//! Nothing here does I/O.

mod check;
mod condition;
mod diagnostic;
mod matrix;
mod model;
mod plan;
mod schedule;
mod schema;
mod source;
mod suggest;
mod variables;

pub use check::{MAX_JOBS, MAX_MATRIX_JOBS};
pub use condition::{Condition, ConditionError, Facts, MAX_CONDITION_BYTES, MAX_CONDITION_LOOPS, Status};
pub use diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS, render};
pub use model::{
    ArtifactsSpec, Build, CacheSpec, Command, Concurrency, Duration, Env, Image, JobSpec, MAX_RETRIES,
    Manual, Matrix, Network, On, ParseDurationError, ParseSizeError, Pipeline, Post, PullRequestFilter,
    PushFilter, Resources, Service, Size, Step, TagFilter,
};
pub use plan::{Cache, ConcurrencyGroup, DEFAULT_JOB_TIMEOUT, ExpandError, Job, JobId, MAX_PLAN_BYTES, Plan};
pub use schedule::{
    Effect, JobOutcome, JobState, RunOutcome, Schedule, ScheduleError, ScheduleEvent, SkipReason,
};
pub use schema::{SCHEMA_PATH, json_schema};
pub use source::{MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES};
pub use variables::{
    CacheKey, Context, Event, MAX_VALUE_BYTES, STANDARD_VARIABLES, SubstituteError, TemplateError,
    UndefinedVariable, WORKSPACE,
};

#[cfg(test)]
mod tests;
