//! From results to JSON, for the version of the API that was asked for.

mod build;
mod container;
mod endpoints;
mod event;
mod files;
mod host_config;
mod human;
mod image;
mod network;
mod pull;
mod push;
mod stats;
mod system;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

pub(crate) use build::{BuildLines, cached_layer};
pub(crate) use container::{container, container_summary, labels, status};
pub(crate) use event::event;
pub(crate) use files::path_stat;
pub(crate) use image::{history, image, image_summary};
pub(crate) use network::{network, pseudo_networks, volume};
pub(crate) use pull::PullLines;
pub(crate) use push::{push_begins, push_lines, pushed};
pub(crate) use stats::stats;
pub(crate) use system::{info, version};

/// What Go writes for a time that is not set.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// A response with a JSON body.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

/// A successful response with a JSON body.
pub(crate) fn ok(value: &impl Serialize) -> Response {
    json(StatusCode::OK, value)
}

/// A successful response without a body.
pub(crate) fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// A successful response whose body comes as it is made.
pub(crate) fn stream(content_type: &'static str, body: Body) -> Response {
    ([(header::CONTENT_TYPE, content_type)], body).into_response()
}

/// One object of several: `json!` reaches its limit of recursion in the longest.
fn merged<const N: usize>(parts: [Value; N]) -> Value {
    let members = parts.into_iter().filter_map(|part| match part {
        Value::Object(members) => Some(members),
        _ => None,
    });
    Value::Object(members.flatten().collect())
}

/// RFC 3339, as all times in answers.
fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| ZERO_TIME.to_owned(), |time| time.to_string())
}
