use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Image};
use crate::schema;

/// A container beside the job, on the job's network, under its own name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The service's image.
    pub image: Image,
    /// Variables of the service. Values may name the job's.
    #[serde(default, skip_serializing_if = "Env::is_empty")]
    #[schemars(schema_with = "schema::env")]
    pub env: Env,
    /// The command that succeeds once the service is ready; the steps start then. The image's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Command>,
    /// What runs instead of the image's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Command>,
    /// What runs instead of the image's entrypoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Command>,
    /// The user the service runs as; the image's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::text")]
    pub user: Option<String>,
}

/// A command: a string is run by `/bin/sh -c`, a list as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Command {
    /// A line for `/bin/sh -c`.
    Shell(#[schemars(schema_with = "schema::nonempty")] String),
    /// A program and its arguments.
    Exec(#[schemars(schema_with = "schema::arguments")] Vec<String>),
}
