//! Images from archives: root file systems, docker-archives, OCI layouts.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use engine_types::{Digest, ErrorKind, Reference};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Deserialize;

use super::error::{StoreError, at};
use super::images::{Image, LayerRef};
use super::ingest::Expected;
use super::layers::ChainId;
use super::staging::StagedDir;
use super::{ImageStore, sha256};
use crate::archive::{UnpackError, UnpackOptions, unpack};
use crate::config::ImageConfig;
use crate::manifest::{Descriptor, Index, Manifest, ManifestOrIndex, Platform};

/// A failure to load images from an archive. Nothing of it is kept but whole layers, which `collect` removes.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The archive could not be unpacked.
    #[error("failed to unpack the image archive into {path:?}")]
    Unpack {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: UnpackError,
    },
    /// The archive holds no images.
    #[error("not an image archive: it has neither manifest.json nor index.json")]
    NotAnArchive,
    /// A file that the archive's own lists name could not be read.
    #[error("failed to read {name:?} in the image archive")]
    Member {
        /// The file.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A list or manifest in the archive cannot be read.
    #[error("malformed {name:?} in the image archive")]
    Malformed {
        /// The file.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A manifest or configuration differs from its digest.
    #[error("wrong digest of {name:?} in the image archive: got {actual}")]
    Digest {
        /// The file, whose name holds what was promised.
        name: String,
        /// What came.
        actual: Digest,
    },
    /// An index has nothing for this machine.
    #[error("the image archive has no image for {0}")]
    NoPlatform(Platform),
    /// A repository tag is no reference.
    #[error("malformed name {name:?} in the image archive")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        source: engine_types::ParseReferenceError,
    },
    /// The image could not be stored.
    #[error("failed to store the image")]
    Store(#[from] StoreError),
}

impl LoadError {
    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unpack { source, .. } => source.kind(),
            Self::NotAnArchive | Self::Name { .. } => ErrorKind::InvalidArgument,
            Self::Member { .. } | Self::Malformed { .. } | Self::Digest { .. } => ErrorKind::Corrupt,
            Self::NoPlatform(_) => ErrorKind::NotFound,
            Self::Store(e) => e.kind(),
        }
    }
}

/// An image from an archive, with the names it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// Its names in the archive.
    pub references: Vec<Reference>,
}

/// One entry of a docker-archive's `manifest.json` (moby's image/tarexport).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// How deep indexes may point to indexes.
const INDEX_DEPTH_MAX: u32 = 4;
/// The longest list, manifest or configuration: what registries accept for a manifest.
const JSON_MAX_BYTES: u64 = 4 << 20;
/// Where containerd keeps the full name, and OCI the tag or full name.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

impl ImageStore {
    /// Makes an image of one layer from a root file system's archive, compressed or not.
    ///
    /// The layers in `config` are replaced; what else it says is kept.
    ///
    /// # Errors
    /// `StoreError::Unpack` for a hostile or broken archive.
    pub fn import(
        &self,
        rootfs: impl Read + Send,
        mut config: ImageConfig,
        tag: Option<&Reference>,
    ) -> Result<Image, StoreError> {
        let _hold = self.hold()?;
        let ingested = self.ingest(rootfs, Expected::default(), true)?;
        let layer = self.place(ingested, None)?;
        config.rootfs.diff_ids = vec![layer.diff_id];
        let layers = vec![LayerRef { diff_id: layer.diff_id, chain_id: layer.chain_id, blob: layer.blob }];
        let image = self.put_image_record(&config.to_bytes(), layers, None)?;
        if let Some(tag) = tag {
            self.tag(image.id, tag)?;
        }
        Ok(image)
    }

    /// Stores the images of a docker-archive or OCI layout, which may be compressed, and gives them their names.
    ///
    /// Of an index it takes the image for this machine.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self, archive: impl Read + Send) -> Result<Vec<Loaded>, LoadError> {
        let _hold = self.hold()?;
        let staged = StagedDir::create(self.root())?;
        let options = UnpackOptions { limits: self.0.limits, ..UnpackOptions::default() };
        unpack(archive, staged.path(), &options)
            .map_err(|source| LoadError::Unpack { path: staged.path().to_owned(), source })?;
        let loading = Loading {
            store: self,
            directory: File::open(staged.path()).map_err(at("open", staged.path()))?.into(),
        };
        if let Some(list) = loading.json::<Vec<DockerEntry>>("manifest.json")? {
            return list.iter().map(|entry| loading.docker(entry)).collect();
        }
        match loading.json::<Index>("index.json")? {
            Some(index) => loading.oci(&index),
            None => Err(LoadError::NotAnArchive),
        }
    }
}

/// An unpacked archive. Its members are opened as if its directory were `/`: old archives hold symbolic links.
struct Loading<'a> {
    store: &'a ImageStore,
    directory: OwnedFd,
}

impl Loading<'_> {
    fn docker(&self, entry: &DockerEntry) -> Result<Loaded, LoadError> {
        let config = self.bytes(&entry.config)?;
        let parsed = parse::<ImageConfig>(&entry.config, &config)?;
        let layers = self.layers(&parsed, &entry.layers, None)?;
        let image = self.store.put_image_record(&config, layers, None)?;
        let names = entry.repo_tags.iter().flatten().map(|name| parse_name(name));
        self.named(image, names.collect::<Result<_, _>>()?)
    }

    fn oci(&self, index: &Index) -> Result<Vec<Loaded>, LoadError> {
        // The same image may be listed once a name.
        let mut loaded: Vec<Loaded> = Vec::new();
        let host = Platform::host();
        let suits = |d: &&Descriptor| {
            d.platform.as_ref().is_none_or(|p| p.os == host.os && p.architecture == host.architecture)
        };
        let mut chosen: Vec<_> = index.manifests.iter().filter(suits).collect();
        if chosen.is_empty() {
            // Somebody wants to look into, or pass on, what does not run here.
            chosen.extend(&index.manifests);
        }
        for descriptor in chosen {
            let image = self.oci_image(descriptor, 0)?;
            let names = descriptor.annotations.as_ref().map(names_of).unwrap_or_default();
            let one = self.named(image, names)?;
            match loaded.iter_mut().find(|l| l.image.id == one.image.id) {
                Some(known) => known.references.extend(one.references),
                None => loaded.push(one),
            }
        }
        Ok(loaded)
    }

    fn oci_image(&self, descriptor: &Descriptor, depth: u32) -> Result<Image, LoadError> {
        let name = blob_name(descriptor.digest);
        let bytes = self.verified(&name, descriptor.digest)?;
        let manifest: Manifest = match parse(&name, &bytes)? {
            ManifestOrIndex::Manifest(manifest) => manifest,
            ManifestOrIndex::Index(index) => {
                let host = Platform::host();
                return match index
                    .select(&host)
                    .or(index.manifests.first().filter(|_| index.manifests.len() == 1))
                {
                    Some(inner) if depth < INDEX_DEPTH_MAX => self.oci_image(inner, depth + 1),
                    _ => Err(LoadError::NoPlatform(host)),
                };
            }
        };
        let config_name = blob_name(manifest.config.digest);
        let config = self.verified(&config_name, manifest.config.digest)?;
        let parsed = parse::<ImageConfig>(&config_name, &config)?;
        let names: Vec<_> = manifest.layers.iter().map(|layer| blob_name(layer.digest)).collect();
        let layers = self.layers(&parsed, &names, Some(&manifest.layers))?;
        let manifest = self.store.write_blob(&bytes)?;
        Ok(self.store.put_image_record(&config, layers, Some(manifest))?)
    }

    /// Takes in the layers of an image, lowest first. A docker-archive does not say their digests.
    fn layers(
        &self,
        config: &ImageConfig,
        names: &[String],
        blobs: Option<&[Descriptor]>,
    ) -> Result<Vec<LayerRef>, LoadError> {
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != names.len() {
            return Err(StoreError::LayerCount { expected: diff_ids.len(), actual: names.len() }.into());
        }
        let mut layers: Vec<LayerRef> = Vec::new();
        for (index, (name, &diff_id)) in names.iter().zip(diff_ids).enumerate() {
            let parent = layers.last().map(|layer| layer.chain_id);
            let chain_id = ChainId::of(parent, diff_id);
            let promised = blobs.map(|blobs| blobs[index].clone());
            let known = self.store.layer(chain_id).ok().and_then(|layer| layer.blob);
            if let Some(known) =
                known.filter(|known| promised.as_ref().is_none_or(|p| p.digest == known.digest))
            {
                layers.push(LayerRef { diff_id, chain_id, blob: Some(promised.unwrap_or(known)) });
                continue;
            }
            let expected =
                Expected { blob: promised.as_ref().map(|blob| blob.digest), diff_id: Some(diff_id) };
            let file = self.open(name)?;
            let ingested = self.store.ingest(&file, expected, false)?;
            let blob = promised.unwrap_or_else(|| ingested.blob.clone());
            self.store.link_blob(&file, blob.digest)?;
            self.store.place(ingested, parent)?;
            layers.push(LayerRef { diff_id, chain_id, blob: Some(blob) });
        }
        Ok(layers)
    }

    fn named(&self, image: Image, references: Vec<Reference>) -> Result<Loaded, LoadError> {
        for reference in &references {
            self.store.tag(image.id, reference)?;
        }
        Ok(Loaded { image, references })
    }

    fn open(&self, name: &str) -> Result<File, LoadError> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.directory, name, flags, Mode::empty(), resolve)
            .map(File::from)
            .map_err(|e| LoadError::Member { name: name.to_owned(), source: e.into() })
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, LoadError> {
        let mut bytes = Vec::new();
        let read = self.open(name)?.take(JSON_MAX_BYTES).read_to_end(&mut bytes);
        read.map_err(|source| LoadError::Member { name: name.to_owned(), source })?;
        Ok(bytes)
    }

    fn verified(&self, name: &str, digest: Digest) -> Result<Vec<u8>, LoadError> {
        let bytes = self.bytes(name)?;
        match sha256(&bytes) {
            actual if actual == digest => Ok(bytes),
            actual => Err(LoadError::Digest { name: name.to_owned(), actual }),
        }
    }

    /// A list at the top of the archive; `None` if it is not there.
    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, LoadError> {
        match self.bytes(name) {
            Ok(bytes) => parse(name, &bytes).map(Some),
            Err(LoadError::Member { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn parse<T: for<'de> Deserialize<'de>>(name: &str, bytes: &[u8]) -> Result<T, LoadError> {
    serde_json::from_slice(bytes).map_err(|source| LoadError::Malformed { name: name.to_owned(), source })
}

fn parse_name(name: &str) -> Result<Reference, LoadError> {
    name.parse().map_err(|source| LoadError::Name { name: name.to_owned(), source })
}

/// The name in an index's annotations. A bare tag, which OCI allows, names no image by itself.
fn names_of(annotations: &BTreeMap<String, String>) -> Vec<Reference> {
    let names: HashMap<_, _> = annotations.iter().collect();
    let candidates = NAME_ANNOTATIONS.iter().filter_map(|key| names.get(&(*key).to_owned()).copied());
    let full = candidates.filter(|name| name.contains([':', '/', '@']));
    full.filter_map(|name| name.parse().ok()).take(1).collect()
}

fn blob_name(digest: Digest) -> String {
    Path::new("blobs/sha256").join(digest.hex()).to_string_lossy().into_owned()
}
