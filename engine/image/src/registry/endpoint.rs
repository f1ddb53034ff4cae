use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use engine_types::{Digest, Reference};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};

use super::error::PullError;

/// How registries are reached. The defaults reach public ones.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    /// Addresses (`host[:port]`, `http://…`, `https://…`) to try before the registry that is the key.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Registries (`host[:port]`) that speak plain HTTP. Those on loopback addresses always do.
    pub insecure: Vec<String>,
    /// By registry (`host[:port]`, `docker.io` for Docker Hub).
    pub credentials: BTreeMap<String, Credentials>,
}

/// A user's name and password or access token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password or access token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent before it counts as broken.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(30);

impl Registries {
    /// Whom to ask for an image of this registry, in order: the mirrors, then the registry itself.
    pub(super) fn endpoints(&self, registry: &str) -> Result<Vec<Endpoint>, PullError> {
        let mirrors = self.mirrors.get(registry).map(Vec::as_slice).unwrap_or_default();
        let addresses = mirrors.iter().map(String::as_str).chain([registry]);
        addresses.map(|address| self.endpoint(address)).collect()
    }

    pub(super) fn endpoint(&self, address: &str) -> Result<Endpoint, PullError> {
        let (scheme, host) = match address.split_once("://") {
            Some((scheme, host)) => (Some(scheme), host.trim_end_matches('/')),
            None => (None, address),
        };
        let plain = match scheme {
            Some("http") => true,
            Some("https") => false,
            Some(_) => return Err(PullError::Address(address.to_owned())),
            None => is_loopback(host) || self.insecure.iter().any(|insecure| insecure == host),
        };
        if host.is_empty() || host.contains('/') {
            return Err(PullError::Address(address.to_owned()));
        }
        let auth = self.credentials.get(host).map_or(RegistryAuth::Anonymous, |credentials| {
            RegistryAuth::Basic(credentials.username.clone(), credentials.password.clone())
        });
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(READ_TIMEOUT),
            use_monolithic_push: true,
            user_agent: concat!("lighter/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|source| PullError::Unreachable {
            registry: host.to_owned(),
            source: Box::new(source),
        })?;
        Ok(Endpoint { host: host.to_owned(), plain, auth, client })
    }
}

/// A registry to ask.
pub(super) struct Endpoint {
    pub(super) host: String,
    /// It speaks HTTP without TLS.
    pub(super) plain: bool,
    auth: RegistryAuth,
    pub(super) client: Client,
}

impl Endpoint {
    /// Gets a token, where the registry wants one, with errors that later requests would hide.
    pub(super) async fn authenticate(
        &self,
        reference: &Reference,
        operation: RegistryOperation,
    ) -> Result<(), PullError> {
        let name = self.client_reference(reference, None);
        let result = self.client.auth(&name, &self.auth, operation).await;
        result.map(drop).map_err(|e| PullError::from_client(e, &self.host, reference))
    }

    /// The manifest or index that a name, or the digest if there is one, stands for.
    pub(super) async fn manifest(
        &self,
        reference: &Reference,
        digest: Option<Digest>,
        accepted: &[&str],
    ) -> Result<Bytes, PullError> {
        let name = self.client_reference(reference, digest);
        match self.client.pull_manifest_raw(&name, &self.auth, accepted).await {
            Ok((bytes, _)) => Ok(bytes),
            Err(e) => Err(PullError::from_client(e, &self.host, reference)),
        }
    }

    /// The client's form of a name, at this endpoint.
    pub(super) fn client_reference(
        &self,
        reference: &Reference,
        digest: Option<Digest>,
    ) -> oci_client::Reference {
        let (host, repository) = (self.host.clone(), reference.repository().to_owned());
        match (digest, reference.tag()) {
            (Some(digest), _) => oci_client::Reference::with_digest(host, repository, digest.to_string()),
            (None, tag) => {
                oci_client::Reference::with_tag(host, repository, tag.unwrap_or("latest").to_owned())
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_first_and_only_for_their_registry() {
        let registries = Registries {
            mirrors: BTreeMap::from([(
                "docker.io".into(),
                vec!["http://mirror:5000/".into(), "other".into()],
            )]),
            ..Registries::default()
        };
        let hosts = |registry| {
            let endpoints = registries.endpoints(registry).unwrap();
            endpoints.into_iter().map(|endpoint| endpoint.host).collect::<Vec<_>>()
        };
        assert_eq!(hosts("docker.io"), ["mirror:5000", "other", "docker.io"]);
        assert_eq!(hosts("ghcr.io"), ["ghcr.io"]);
    }

    #[test]
    fn refuses_addresses_that_are_none() {
        let endpoint = |address| Registries::default().endpoint(address);
        for bad in ["ftp://x", "http://", "https://host/path"] {
            assert!(matches!(endpoint(bad), Err(PullError::Address(address)) if address == bad), "{bad}");
        }
    }

    #[test]
    fn knows_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["docker.io", "127.example.com", "10.0.0.1:5000", "[fe80::1]"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn passwords_stay_out_of_logs() {
        let credentials = Credentials { username: "u".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }
}
