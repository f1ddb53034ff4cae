use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL_REPOSITORY: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// The longest repository name, registry included (distribution's `NameTotalLengthMax`).
const NAME_MAX: usize = 255;
/// The longest tag (distribution's grammar: `[\w][\w.-]{0,127}`).
const TAG_MAX: usize = 128;

/// The full name of an image: registry, repository, and a tag, a digest or both.
///
/// Parsing completes short names as Docker does: `busybox` is `docker.io/library/busybox:latest`.
/// [`Display`](fmt::Display) gives Docker's familiar short form back; [`Reference::canonical`] the full one.
/// Grammar: the distribution project's `reference` package.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A string that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseReferenceError {
    /// The name does not follow the grammar.
    #[error("invalid reference format: {0:?}")]
    Format(String),
    /// Repository names have no upper-case letters.
    #[error("invalid reference format: repository name {0:?} must be lowercase")]
    Uppercase(String),
    /// The name is longer than 255 characters.
    #[error("invalid reference format: repository name must not be more than {NAME_MAX} characters")]
    TooLong,
    /// What follows `@` is no SHA-256 digest.
    #[error("invalid reference format: unsupported or malformed digest in {0:?}")]
    Digest(String),
}

impl Reference {
    /// The registry's host and, where given, port: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository's path within its registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only where a digest stands without one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest, if the reference pins one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same repository pinned to a manifest's digest, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Registry, repository, tag and digest in full: `docker.io/library/busybox:latest`.
    pub fn canonical(&self) -> String {
        format!("{}/{}{}", self.registry, self.repository, self.suffix())
    }

    /// The repository as Docker prints it, without tag or digest: `busybox`, `localhost:5000/shop/web`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.split_once('/') {
            Some((OFFICIAL_REPOSITORY, name)) if !name.contains('/') => name.to_owned(),
            _ => self.repository.clone(),
        }
    }

    fn suffix(&self) -> String {
        let mut out = String::new();
        if let Some(tag) = &self.tag {
            out.push(':');
            out.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            out.push('@');
            out.push_str(&digest.to_string());
        }
        out
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.familiar_name(), self.suffix())
    }
}

impl FromStr for Reference {
    type Err = ParseReferenceError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let format_error = || ParseReferenceError::Format(s.to_owned());
        let (name_and_tag, digest) = match s.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.parse().map_err(|_| ParseReferenceError::Digest(s.to_owned()))?;
                (name, Some(digest))
            }
            None => (s, None),
        };
        let (name, tag) = split_tag(name_and_tag);
        if !tag.is_none_or(is_tag) {
            return Err(format_error());
        }
        let (registry, path) = split_registry(name);
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseReferenceError::Uppercase(path.to_owned()));
        }
        if !is_registry(registry) || !path.split('/').all(is_path_component) {
            return Err(format_error());
        }
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL_REPOSITORY}/{path}")
        } else {
            path.to_owned()
        };
        if registry.len() + 1 + repository.len() > NAME_MAX {
            return Err(ParseReferenceError::TooLong);
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl TryFrom<String> for Reference {
    type Error = ParseReferenceError;

    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.canonical()
    }
}

/// Splits `name:tag`; a colon before the last slash belongs to the registry's port.
fn split_tag(s: &str) -> (&str, Option<&str>) {
    match s.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (s, None),
    }
}

/// The first component is a registry if it could not be a Docker Hub user: it has a dot or a port, is
/// `localhost`, or has upper-case letters.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", path)) => (DEFAULT_REGISTRY, path),
        Some((first, path))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, path)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_registry(s: &str) -> bool {
    let (host, port) = match s.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (s, None),
    };
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    host_ok && port.is_none_or(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()))
}

/// `[a-z0-9]+` runs joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(s: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = s.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes
            .split(|&b| alphanumeric(b))
            .filter(|separator| !separator.is_empty())
            .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

fn is_tag(s: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    s.len() <= TAG_MAX
        && s.bytes().next().is_some_and(word)
        && s.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, canonical: &str, familiar: &str) {
        let parsed: Reference = input.parse().unwrap();
        assert_eq!(parsed.canonical(), canonical);
        assert_eq!(parsed.to_string(), familiar);
        assert_eq!(parsed.canonical().parse::<Reference>().unwrap(), parsed);
    }

    #[test]
    fn completes_short_names_as_docker_does() {
        check("busybox", "docker.io/library/busybox:latest", "busybox:latest");
        check("debian:bookworm-slim", "docker.io/library/debian:bookworm-slim", "debian:bookworm-slim");
        check("grafana/loki", "docker.io/grafana/loki:latest", "grafana/loki:latest");
        check("index.docker.io/library/a", "docker.io/library/a:latest", "a:latest");
        check("localhost/a", "localhost/a:latest", "localhost/a:latest");
        check("localhost:5000/a:1", "localhost:5000/a:1", "localhost:5000/a:1");
        check("ghcr.io/o/r/deep__name", "ghcr.io/o/r/deep__name:latest", "ghcr.io/o/r/deep__name:latest");
        check("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest");
        let digest = format!("sha256:{}", "ab".repeat(32));
        check(&format!("a@{digest}"), &format!("docker.io/library/a@{digest}"), &format!("a@{digest}"));
        check(&format!("a:1@{digest}"), &format!("docker.io/library/a:1@{digest}"), &format!("a:1@{digest}"));
    }

    #[test]
    fn rejects_what_docker_rejects() {
        for bad in
            ["", ":", "a:", "a//b", "-a", "a-", "a..b", "a/b:c d", "http://a", "a@sha256:00", "a:.x", "/a"]
        {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert_eq!("Foo".parse::<Reference>(), Err(ParseReferenceError::Uppercase("Foo".into())));
        assert_eq!("a".repeat(256).parse::<Reference>(), Err(ParseReferenceError::TooLong));
    }
}
