//! The JSON Schema of `pipeline.yaml`, generated from the model's types.
//!
//! It is also what [`Pipeline::parse`] checks files against, so that editors and workers cannot disagree. Formats
//! named `ci-…` are this project's own; the `check` module has a function for each.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::{Pipeline, model};

/// The committed schema's path, from the repository's root.
pub const SCHEMA_PATH: &str = "pipelines/pipeline.schema.json";

/// Generates the JSON Schema (draft 2020-12) of `pipeline.yaml`.
pub fn json_schema() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Pipeline>().to_value()
}

/// Scalars that stand for text: `PORT: 8080` is meant as a string by whoever writes it.
fn scalar(format: &str) -> Value {
    json!({ "type": ["string", "number", "boolean"], "format": format })
}

fn string(format: &str) -> Value {
    json!({ "type": "string", "format": format })
}

/// One item, or a list of them.
fn one_or_many(item: &Value) -> Schema {
    json_schema!({ "anyOf": [item, { "type": "array", "items": item }] })
}

/// One item, or a list of at least one.
fn one_or_more(item: &Value) -> Schema {
    json_schema!({ "anyOf": [item, { "type": "array", "items": item, "minItems": 1 }] })
}

fn env_value() -> Value {
    json!({
        "type": "object",
        "additionalProperties": scalar("ci-template"),
        "propertyNames": env_name(),
    })
}

fn env_name() -> Value {
    json!({ "type": "string", "format": "ci-env-name", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" })
}

fn job_name() -> Value {
    json!({ "type": "string", "format": "ci-job-name", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$" })
}

fn service_name() -> Value {
    json!({ "type": "string", "format": "ci-service-name", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$" })
}

pub(crate) fn jobs(generator: &mut SchemaGenerator) -> Schema {
    let job = generator.subschema_for::<model::JobSpec>();
    json_schema!({ "type": "object", "minProperties": 1, "additionalProperties": job, "propertyNames": job_name() })
}

pub(crate) fn services(generator: &mut SchemaGenerator) -> Schema {
    let service = generator.subschema_for::<model::Service>();
    json_schema!({ "type": "object", "additionalProperties": service, "propertyNames": service_name() })
}

pub(crate) fn steps(generator: &mut SchemaGenerator) -> Schema {
    let step = generator.subschema_for::<model::Step>();
    json_schema!({ "type": "array", "items": step, "minItems": 1 })
}

pub(crate) fn caches(generator: &mut SchemaGenerator) -> Schema {
    let cache = generator.subschema_for::<model::CacheSpec>();
    json_schema!({ "type": "array", "items": cache })
}

pub(crate) fn matrix() -> Schema {
    let values =
        json!({ "type": "object", "additionalProperties": scalar("ci-text"), "propertyNames": env_name() });
    json_schema!({
        "description": "The values that the job is run with, one job for each combination.",
        "type": "object",
        "properties": {
            "exclude": {
                "description": "The combinations left out: those that have all values of an entry.",
                "type": "array",
                "items": values,
            },
            "include": {
                "description": "More values for the combinations that an entry agrees with; a combination of its own where it agrees with none.",
                "type": "array",
                "items": values,
            },
        },
        "additionalProperties": { "type": "array", "items": scalar("ci-text"), "minItems": 1 },
        "propertyNames": env_name(),
    })
}

macro_rules! schemas {
    ($($name:ident => $schema:expr;)*) => {
        $(pub(crate) fn $name(_: &mut SchemaGenerator) -> Schema {
            Schema::try_from(Value::from($schema)).expect("an object is a schema")
        })*
    };
}

schemas! {
    env => env_value();
    text => scalar("ci-text");
    nonempty => string("ci-nonempty");
    template => string("ci-template");
    image_reference => string("ci-image");
    workspace_path => string("ci-workspace-path");
    cache_key => string("ci-cache-key");
    job_condition => json!({ "type": ["string", "boolean"], "format": "ci-job-condition" });
    step_condition => json!({ "type": ["string", "boolean"], "format": "ci-step-condition" });
    job_names => one_or_many(&string("ci-text"));
    env_names => one_or_many(&env_name());
    globs => one_or_many(&string("ci-glob"));
    optional_globs => json!({ "anyOf": [one_or_many(&string("ci-glob")), { "type": "null" }] });
    path_globs => one_or_many(&string("ci-path-glob"));
    crons => one_or_many(&string("ci-cron"));
    paths => one_or_more(&string("ci-nonempty"));
    script => one_or_more(&string("ci-nonempty"));
    arguments => json!({ "type": "array", "items": scalar("ci-text"), "minItems": 1 });
}
