//! Manifests and indexes (OCI image spec, manifest.md and image-index.md; Docker's schema 2, which differs only in
//! its media types).

use std::collections::BTreeMap;

use engine_types::Digest;
use serde::{Deserialize, Serialize};

use crate::archive::Compression;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Names a blob: what it is, its digest and its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Which machine it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free text for tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// A machine an image runs on, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `v8`, `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// An image's manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// A list of manifests, one a platform.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) manifests: Vec<Descriptor>,
}

/// Either of the two, told by their contents: media types are optional in OCI's.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum ManifestOrIndex {
    Manifest(Manifest),
    Index(Index),
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.to_owned(), digest, size, platform: None, annotations: None }
    }

    /// A layer as this store keeps it: compressed as it came.
    pub(crate) fn layer(compression: Compression, digest: Digest, size: u64) -> Self {
        let media_type = match compression {
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Compression::None | Compression::Bzip2 | Compression::Xz => {
                "application/vnd.oci.image.layer.v1.tar"
            }
        };
        Self::new(media_type, digest, size)
    }
}

impl Manifest {
    /// Tells an image from the charts, signatures and other artifacts that registries also hold.
    pub(crate) fn is_image(&self) -> bool {
        matches!(self.config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG)
    }
}

impl Index {
    /// The entry for a platform: of its exact variant if there is one, or else of its architecture.
    pub(crate) fn select(&self, wanted: &Platform) -> Option<&Descriptor> {
        let suits = |d: &&Descriptor| {
            d.platform.as_ref().is_some_and(|p| p.os == wanted.os && p.architecture == wanted.architecture)
        };
        let variant = |d: &Descriptor| d.platform.as_ref().and_then(|p| p.variant.clone());
        let candidates: Vec<_> = self.manifests.iter().filter(suits).collect();
        candidates.iter().find(|d| variant(d) == wanted.variant).or(candidates.first()).copied()
    }
}

impl Platform {
    /// The machine this process runs on.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.map(str::to_owned) }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(architecture: &str, variant: Option<&str>, size: u64) -> Descriptor {
        let platform = Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(str::to_owned),
        };
        let digest = Digest::from_sha256([u8::try_from(size).unwrap(); 32]);
        Descriptor { platform: Some(platform), ..Descriptor::new(OCI_MANIFEST, digest, size) }
    }

    #[test]
    fn selects_the_variant_and_falls_back_on_the_architecture() {
        let manifests = vec![
            entry("unknown", None, 0),
            entry("arm", Some("v6"), 1),
            entry("arm", Some("v7"), 2),
            entry("amd64", None, 3),
        ];
        let index = Index { schema_version: 2, media_type: None, manifests };
        let select = |architecture: &str, variant: Option<&str>| {
            let wanted = entry(architecture, variant, 9).platform.unwrap();
            index.select(&wanted).map(|d| d.size)
        };
        assert_eq!(select("arm", Some("v7")), Some(2));
        assert_eq!(select("arm", Some("v5")), Some(1));
        assert_eq!(select("amd64", Some("v3")), Some(3));
        assert_eq!(select("s390x", None), None);
    }
}
