//! What registries are asked besides images: whether a log-in is good, what a name stands for, what there is.

use engine_types::{Digest, Reference};
use oci_client::RegistryOperation;
use serde::Deserialize;

use super::endpoint::{CONNECT_TIMEOUT, READ_TIMEOUT};
use super::{Credentials, ImageConfig, ManifestOrIndex, Pull, PullError, Registries, collect_blob};
use crate::manifest::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, OCI_INDEX, OCI_MANIFEST, Platform};
use crate::store::{ImageStore, sha256};

/// Where Docker Hub answers searches.
const HUB_INDEX: &str = "index.docker.io";

/// What a name stands for in its registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The machines that it has images for.
    pub platforms: Vec<Platform>,
}

/// A repository that a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// How many like it.
    pub star_count: u64,
    /// The registry's own.
    pub is_official: bool,
    /// Built by the registry.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct FoundAll {
    #[serde(default)]
    results: Vec<Found>,
}

/// A registry's wish to know who asks (RFC 9110, section 11.6.1).
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Registries {
    /// Asks a registry whether a log-in is good.
    ///
    /// # Errors
    /// [`PullError::LogIn`] when it is not; [`PullError::Unanswered`] when nobody says so.
    pub async fn check_login(&self, registry: &str, credentials: &Credentials) -> Result<(), PullError> {
        let (client, base) = self.http(registry)?;
        let failed = |source| PullError::Unanswered { registry: registry.to_owned(), source };
        let url = format!("{base}/v2/");
        let answer = client.get(&url).send().await.map_err(failed)?;
        if answer.status().is_success() {
            return Ok(());
        }
        let challenge = answer.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
        let Credentials { username, password } = credentials;
        let request = match challenge.and_then(challenge_of) {
            Some(Challenge::Basic) => client.get(&url),
            Some(Challenge::Bearer { realm, service }) => {
                let service = service.map(|service| ("service", service));
                let query = [("account", username.clone()), ("client_id", "lighter".to_owned())];
                client.get(realm).query(&service.into_iter().chain(query).collect::<Vec<_>>())
            }
            None => return answer.error_for_status().map(drop).map_err(failed),
        };
        let answer = request.basic_auth(username, Some(password)).send().await.map_err(failed)?;
        match answer.status().as_u16() {
            401 | 403 => Err(PullError::LogIn { registry: registry.to_owned() }),
            _ => answer.error_for_status().map(drop).map_err(failed),
        }
    }

    /// Searches a registry's repositories, as the first version of its protocol had it.
    ///
    /// # Errors
    /// [`PullError::Unanswered`].
    pub async fn search(&self, registry: &str, term: &str, limit: u32) -> Result<Vec<Found>, PullError> {
        let (client, base) = self.http(registry)?;
        let failed = |source| PullError::Unanswered { registry: registry.to_owned(), source };
        let request = client.get(format!("{base}/v1/search"));
        let request = request.query(&[("q", term), ("n", &limit.to_string())]);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        let text = answer.text().await.map_err(failed)?;
        let all: FoundAll = serde_json::from_str(&text)
            .map_err(|source| PullError::Malformed { what: "list of repositories", source })?;
        Ok(all.results)
    }

    fn http(&self, registry: &str) -> Result<(reqwest::Client, String), PullError> {
        let endpoint = self.endpoint(if registry == "docker.io" { HUB_INDEX } else { registry })?;
        let client = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT);
        let failed = |source| PullError::Unanswered { registry: registry.to_owned(), source };
        let scheme = if endpoint.plain { "http" } else { "https" };
        Ok((client.build().map_err(failed)?, format!("{scheme}://{}", endpoint.host)))
    }
}

impl ImageStore {
    /// Asks a name's registry what it stands for. Nothing is stored.
    ///
    /// # Errors
    /// As [`ImageStore::pull`].
    pub async fn distribution(
        &self,
        reference: &Reference,
        registries: &Registries,
    ) -> Result<Distribution, PullError> {
        let endpoint = registries.endpoint(reference.registry())?;
        endpoint.authenticate(reference, RegistryOperation::Pull).await?;
        let accepted = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];
        let bytes = endpoint.manifest(reference, reference.digest(), &accepted).await?;
        let digest: Digest = sha256(&bytes);
        let parsed = serde_json::from_slice(&bytes)
            .map_err(|source| PullError::Malformed { what: "manifest", source })?;
        let (media_type, platforms) = match parsed {
            ManifestOrIndex::Index(index) => {
                let platforms = index.manifests.into_iter().filter_map(|one| one.platform).collect();
                (index.media_type.unwrap_or_else(|| OCI_INDEX.to_owned()), platforms)
            }
            ManifestOrIndex::Manifest(manifest) => {
                let pull =
                    Pull { store: self, endpoint, reference, platform: Platform::host(), progress: &|_| {} };
                let config = collect_blob(&pull, &manifest.config).await?;
                let config = ImageConfig::from_slice(&config)
                    .map_err(|source| PullError::Malformed { what: "image configuration", source })?;
                let ImageConfig { os, architecture, variant, .. } = config;
                let media_type = manifest.media_type.unwrap_or_else(|| OCI_MANIFEST.to_owned());
                (media_type, vec![Platform { os, architecture, variant }])
            }
        };
        Ok(Distribution { descriptor: Descriptor::new(&media_type, digest, bytes.len() as u64), platforms })
    }
}

fn challenge_of(header: &str) -> Option<Challenge> {
    let (scheme, parameters) = header.split_once(' ').unwrap_or((header, ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    let value = |name: &str| {
        let (_, rest) = parameters.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    value("realm").filter(|_| is_bearer).map(|realm| Challenge::Bearer { realm, service: value("service") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_apart() {
        assert_eq!(challenge_of("Basic realm=\"x\""), Some(Challenge::Basic));
        let bearer = challenge_of("Bearer realm=\"https://a/token\",service=\"r\",scope=\"s\"");
        let expected =
            Challenge::Bearer { realm: "https://a/token".to_owned(), service: Some("r".to_owned()) };
        assert_eq!(bearer, Some(expected));
        assert_eq!(challenge_of("Digest realm=\"x\""), None);
    }
}
