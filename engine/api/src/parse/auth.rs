//! What clients send of their log-ins: `X-Registry-Auth` and `X-Registry-Config`, JSON in base64.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use engine::image::Credentials;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// With padding or without: clients differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// What Docker Hub is called in log-ins.
const HUB: [&str; 3] = ["https://index.docker.io/v1/", "index.docker.io", "registry-1.docker.io"];

/// Docker's `AuthConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Auth {
    username: String,
    password: String,
    /// User and password in one, in base64.
    auth: String,
    serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

impl Auth {
    /// What images call the registry.
    pub(crate) fn registry(&self) -> String {
        if self.serveraddress.is_empty() {
            "docker.io".to_owned()
        } else {
            registry_name(&self.serveraddress)
        }
    }

    /// The log-in, if there is one.
    pub(crate) fn credentials(self) -> Result<Option<Credentials>, ApiError> {
        if !self.identitytoken.is_empty() || !self.registrytoken.is_empty() {
            return Err(ApiError::Unsupported("an identity token for a registry".to_owned()));
        }
        let Self { mut username, mut password, auth, .. } = self;
        if username.is_empty() && !auth.is_empty() {
            let decoded = base64::engine::general_purpose::STANDARD.decode(&auth).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = text.as_deref().and_then(|text| text.split_once(':'));
            let (user, secret) = pair.ok_or_else(|| invalid("X-Registry-Auth"))?;
            (username, password) = (user.to_owned(), secret.to_owned());
        }
        Ok(Some(Credentials { username, password }).filter(|c| !c.username.is_empty()))
    }
}

/// The log-in of one registry.
pub(crate) fn registry_auth(headers: &HeaderMap) -> Result<Option<Credentials>, ApiError> {
    decode::<Auth>(headers, "X-Registry-Auth")?.map_or(Ok(None), Auth::credentials)
}

/// The log-ins of several registries, by the names that images have of them.
pub(super) fn registry_config(headers: &HeaderMap) -> Result<BTreeMap<String, Credentials>, ApiError> {
    let all: BTreeMap<String, Auth> = decode(headers, "X-Registry-Config")?.unwrap_or_default();
    let mut credentials = BTreeMap::new();
    for (address, auth) in all {
        if let Some(one) = auth.credentials()? {
            credentials.insert(registry_name(&address), one);
        }
    }
    Ok(credentials)
}

/// What images call the registry that a log-in names by its address.
fn registry_name(address: &str) -> String {
    if HUB.contains(&address) {
        return "docker.io".to_owned();
    }
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    host.split('/').next().unwrap_or_default().to_owned()
}

fn decode<T: DeserializeOwned>(headers: &HeaderMap, name: &str) -> Result<Option<T>, ApiError> {
    let Some(header) = headers.get(name).filter(|header| !header.is_empty()) else { return Ok(None) };
    let decoded = BASE64.decode(header.as_bytes()).map_err(|_| invalid(name))?;
    // Clients without a log-in send nothing, or an empty object in quotes.
    serde_json::from_slice(&decoded).map_err(|_| invalid(name))
}

fn invalid(header: &str) -> ApiError {
    ApiError::Invalid(format!("invalid {header} header"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_ins_are_found_by_the_name_that_images_have_of_a_registry() {
        for (address, name) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("https://ghcr.io", "ghcr.io"),
            ("localhost:5000", "localhost:5000"),
            ("http://h:1/v2/", "h:1"),
        ] {
            assert_eq!(registry_name(address), name);
        }
        let mut headers = HeaderMap::new();
        let text = r#"{"h:1":{"username":"u","password":"p"},"i":{"auth":"YTpi"}}"#;
        headers.insert("X-Registry-Config", BASE64.encode(text).parse().unwrap());
        let all = registry_config(&headers).unwrap();
        assert_eq!((all["h:1"].password.as_str(), all["i"].username.as_str()), ("p", "a"));
        headers.insert("X-Registry-Auth", "e30".parse().unwrap());
        assert_eq!(registry_auth(&headers).unwrap(), None);
        headers.insert("X-Registry-Auth", "!".parse().unwrap());
        assert!(registry_auth(&headers).is_err());
    }
}
