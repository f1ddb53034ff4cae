use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Duration, Env, forms};
use crate::{Condition, schema};

/// One command or script of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The step's name in the log; the start of its script where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text")]
    pub name: Option<String>,
    /// A script for `/bin/sh -e`. A list has a line for each of its commands.
    #[serde(deserialize_with = "forms::script")]
    #[schemars(schema_with = "schema::script")]
    pub run: String,
    /// Whether the step runs: a CEL expression, as a job's, and over `status` (`"success"` or `"failure"`). After
    /// a step has failed, only steps run whose expression names `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::step_condition")]
    pub when: Option<Condition>,
    /// How long the step may take: `10m`, `90s`. The job's own limit where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Variables of this step alone. Values may name the job's.
    #[serde(default, skip_serializing_if = "Env::is_empty")]
    #[schemars(schema_with = "schema::env")]
    pub env: Env,
    /// The directory the step starts in, from `/workspace`; the job's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::nonempty")]
    pub workdir: Option<String>,
}
