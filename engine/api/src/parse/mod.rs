//! From HTTP to typed values. Nothing here touches the engine.

mod auth;
mod build;
mod create;
mod endpoint;
mod filters;
mod host_config;
mod limits;
mod mounts;
mod namespaces;
mod network;
mod networking;
mod ports;
mod privileges;
mod update;
mod version;

use std::collections::HashMap;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Uri};
use engine::image::Platform;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::ApiError;

pub(crate) use auth::{Auth, registry_auth};
pub(crate) use build::{Build, BuildNetworkMode, Remote, build, no_buildkit};
pub(crate) use create::{Body as CreateBody, Create, Others, create};
pub(crate) use endpoint::{Endpoint, wrong as wrong_endpoint};
pub(crate) use filters::Filters;
pub(crate) use mounts::{NewVolume, absolute};
pub(crate) use network::CreateNetwork;
pub(crate) use networking::check_default;
pub(crate) use update::update;
pub(crate) use version::{Version, strip_version};

/// The longest body that is read as JSON, in bytes.
const JSON_MAX: usize = 4 << 20;

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Of the API.
    pub(crate) version: Version,
    /// The path's parts, decoded.
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    /// Resolves once the connection is the handler's own.
    pub(crate) upgrade: Option<hyper::upgrade::OnUpgrade>,
}

impl Call {
    pub(crate) fn parse(request: axum::extract::Request) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let (version, path) = strip_version(parts.uri.path())?;
        let path = path.split('/').filter(|part| !part.is_empty()).map(decode).collect::<Result<_, _>>()?;
        let query = Query::parse(&parts.uri)?;
        let asks = parts.headers.contains_key(axum::http::header::UPGRADE);
        let upgrade = parts.extensions.remove().filter(|_| asks);
        Ok(Self { method: parts.method, version, path, query, headers: parts.headers, body, upgrade })
    }

    /// The body as JSON; what is `null` counts as absent. An empty body is an empty object.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        let body = std::mem::take(&mut self.body);
        let bytes = axum::body::to_bytes(body, JSON_MAX).await;
        let bytes = bytes.map_err(|e| ApiError::Invalid(format!("the request's body: {e}")))?;
        if bytes.is_empty() {
            return typed(Value::Object(serde_json::Map::new()));
        }
        typed(serde_json::from_slice(&bytes).map_err(|e| ApiError::Invalid(format!("invalid JSON: {e}")))?)
    }
}

fn typed<T: DeserializeOwned>(mut value: Value) -> Result<T, ApiError> {
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(|e| ApiError::Invalid(format!("invalid JSON: {e}")))
}

/// Go writes `null` for what is empty.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// `linux/arm/v7`.
pub(crate) fn platform(text: &str) -> Result<Platform, ApiError> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [os, architecture] => (*os, *architecture, None),
        [os, architecture, variant] => (*os, *architecture, Some((*variant).to_owned())),
        _ => return Err(ApiError::Invalid(format!("invalid platform: {text:?}"))),
    };
    Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant })
}

fn decode(part: &str) -> Result<String, ApiError> {
    let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
    Ok(decoded.map_err(|e| ApiError::Invalid(format!("the request's path: {e}")))?.into_owned())
}

/// A query's parameters; of one that is given several times all count.
#[derive(Debug, Default)]
pub(crate) struct Query(HashMap<String, Vec<String>>);

impl Query {
    fn parse(uri: &Uri) -> Result<Self, ApiError> {
        let parsed = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        let pairs = parsed.map_err(|e| ApiError::Invalid(e.to_string()))?.0;
        let mut all: HashMap<String, Vec<String>> = HashMap::new();
        for (name, value) in pairs {
            all.entry(name).or_default().push(value);
        }
        Ok(Self(all))
    }

    /// A parameter that is there and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Docker's idea of true: anything but these.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let text = self.text(name).unwrap_or_default().trim().to_ascii_lowercase();
        !matches!(text.as_str(), "" | "0" | "no" | "false" | "none")
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| ApiError::Invalid(format!("invalid value for {name}: {text:?}")))
        };
        self.text(name).map(parse).transpose()
    }

    /// Seconds since 1970, with nine decimals at most.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        self.text(name).filter(|text| *text != "0").map(|text| timestamp(name, text)).transpose()
    }

    pub(crate) fn filters(&self) -> Result<Filters, ApiError> {
        self.text("filters").map_or_else(|| Ok(Filters::default()), Filters::parse)
    }
}

fn timestamp(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    let invalid = || ApiError::Invalid(format!("invalid value for {name}: {text:?}"));
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = format!("{fraction:0<9}");
    let seconds: i64 = seconds.parse().map_err(|_| invalid())?;
    let nanoseconds: i32 = fraction.get(..9).and_then(|nine| nine.parse().ok()).ok_or_else(invalid)?;
    Timestamp::new(seconds, nanoseconds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_with_decimals_or_written_out() {
        let expected = "2025-01-02T03:04:05.5Z".parse::<Timestamp>().unwrap();
        assert_eq!(timestamp("since", "1735787045.5").unwrap(), expected);
        assert_eq!(timestamp("since", "1735787045.500000000").unwrap(), expected);
        assert_eq!(timestamp("since", "2025-01-02T03:04:05.5Z").unwrap(), expected);
        assert!(timestamp("since", "yesterday").is_err());
    }

    #[test]
    fn flags_are_read_as_docker_reads_them() {
        let query = Query::parse(&"/x?a=1&b=0&c=True&d=&e=False&f=f".parse().unwrap()).unwrap();
        let read = ["a", "b", "c", "d", "e", "f", "g"].map(|name| query.flag(name));
        assert_eq!(read, [true, false, true, false, false, true, false]);
    }
}
