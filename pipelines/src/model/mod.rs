//! What a `pipeline.yaml` says, as types. Their doc comments are the descriptions in the JSON Schema.
//!
//! They serialise to the file's own long form, so that what is written can be read again.

mod forms;
mod image;
mod job;
mod service;
mod step;
mod trigger;
mod values;

use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

pub use image::{Build, Image};
pub use job::{ArtifactsSpec, CacheSpec, JobSpec, MAX_RETRIES, Matrix, Network, Post, Resources};
pub use service::{Command, Service};
pub use step::Step;
pub(crate) use trigger::glob;
pub use trigger::{Manual, On, PullRequestFilter, PushFilter, TagFilter};
pub use values::{Duration, ParseDurationError, ParseSizeError, Size};

/// Variables and their values, by name.
pub type Env = BTreeMap<String, String>;

/// A pipeline: what starts it, and the jobs that it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "pipeline.yaml")]
pub struct Pipeline {
    /// The pipeline's name in logs and in `CI_PIPELINE`; `pipeline` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What starts the pipeline; without it, every push and a start by hand.
    #[serde(default)]
    pub on: On,
    /// Variables of all jobs. Values may name the standard variables: `$CI_COMMIT`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::env")]
    pub env: Env,
    /// The image of every job that names none itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Which runs may not be under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// The jobs by name. Those without `needs` start at once and run side by side.
    #[schemars(schema_with = "schema::jobs")]
    pub jobs: IndexMap<String, JobSpec>,
}

/// Runs of one group follow each other instead of running side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// The group's name; standard variables may be named: `deploy-$CI_BRANCH`.
    #[schemars(schema_with = "schema::template")]
    pub group: String,
    /// Whether a new run cancels the group's older ones; otherwise it waits for them.
    #[serde(default)]
    pub cancel: bool,
}
