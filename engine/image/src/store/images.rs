use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use engine_types::{Digest, ImageId, Reference};
use serde::{Deserialize, Serialize};

use super::error::{StoreError, at};
use super::layers::{ChainId, DiffId, Layer};
use super::staging::write_file;
use super::{ImageStore, names_in, read_record, sha256, to_json};
use crate::config::ImageConfig;
use crate::manifest::Descriptor;

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of the configuration.
    pub id: ImageId,
    /// How its containers run, and its history.
    pub config: ImageConfig,
    /// Its layers, lowest first.
    pub layers: Vec<LayerRef>,
    /// Bytes of its files, all layers together.
    pub file_bytes: u64,
    pub(super) manifest: Option<Digest>,
}

/// A layer as an image names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRef {
    /// The digest of the uncompressed archive.
    pub diff_id: DiffId,
    /// The id of the layer with all below it.
    pub chain_id: ChainId,
    /// The archive as it was received; `None` for layers that builds made.
    pub blob: Option<Descriptor>,
}

/// One line of the list of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// The digest of the configuration.
    pub id: ImageId,
    /// Its names with tags; empty for a dangling image.
    pub references: Vec<Reference>,
    /// Its names pinned to the digest they were pulled by.
    pub digests: Vec<Reference>,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// Bytes of its files, all layers together.
    pub file_bytes: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// `images/<image id>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub(super) layers: Vec<LayerRef>,
    pub(super) file_bytes: u64,
    /// The manifest it was pulled by, kept as a blob.
    pub(super) manifest: Option<Digest>,
}

/// `references/<hex>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ReferenceRecord {
    pub(super) reference: Reference,
    pub(super) image: ImageId,
}

impl ImageStore {
    /// Finds an image by name, by id or by the first digits of its id, in Docker's order.
    ///
    /// # Errors
    /// [`StoreError::NoSuchImage`] with the completed name, as Docker says it; so also for digits that several ids
    /// begin with.
    pub fn resolve(&self, name: &str) -> Result<Image, StoreError> {
        let full_id = name.strip_prefix("sha256:").unwrap_or(name);
        if let Ok(digest) = format!("sha256:{full_id}").parse::<Digest>() {
            return self.get(ImageId(digest));
        }
        let parsed = name.parse::<Reference>().ok();
        if let Some(id) = parsed.as_ref().map(|r| self.lookup(r)).transpose()?.flatten() {
            return self.get(id);
        }
        match self.find_by_prefix(full_id)? {
            Some(id) => self.get(id),
            None => Err(StoreError::NoSuchImage(parsed.map_or_else(|| name.to_owned(), |r| r.to_string()))),
        }
    }

    /// The image that a name stands for.
    ///
    /// # Errors
    /// Those of reading the record.
    pub fn lookup(&self, reference: &Reference) -> Result<Option<ImageId>, StoreError> {
        let path = self.reference_path(&stored_form(reference));
        match read_record::<ReferenceRecord>(&path) {
            Ok(record) => Ok(Some(record.image)),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The image with this id.
    ///
    /// # Errors
    /// [`StoreError::NoSuchImage`]; [`StoreError::Digest`] when its configuration was damaged.
    pub fn get(&self, id: ImageId) -> Result<Image, StoreError> {
        let record: ImageRecord = match read_record(&self.image_path(id)) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoSuchImage(id.to_string()));
            }
            other => other?,
        };
        let bytes = self.read_blob(id.0, "an image configuration")?;
        let config =
            ImageConfig::from_slice(&bytes).map_err(|source| StoreError::Config { digest: id.0, source })?;
        let ImageRecord { layers, file_bytes, manifest } = record;
        Ok(Image { id, config, layers, file_bytes, manifest })
    }

    /// All images with their names, sorted by id.
    ///
    /// # Errors
    /// Those of reading the records.
    pub fn list(&self) -> Result<Vec<ImageSummary>, StoreError> {
        let mut names: BTreeMap<ImageId, (Vec<Reference>, Vec<Reference>)> = BTreeMap::new();
        for record in self.references()? {
            let (references, digests) = names.entry(record.image).or_default();
            if record.reference.digest().is_some() {
                digests.push(record.reference);
            } else {
                references.push(record.reference);
            }
        }
        let mut images = Vec::new();
        for id in self.image_ids()? {
            let image = match self.get(id) {
                // Removed since the directory was read.
                Err(StoreError::NoSuchImage(_)) => continue,
                other => other?,
            };
            let (mut references, mut digests) = names.remove(&id).unwrap_or_default();
            references.sort_unstable();
            digests.sort_unstable();
            images.push(ImageSummary {
                id,
                references,
                digests,
                created: image.config.created,
                file_bytes: image.file_bytes,
                labels: image.config.config.labels,
            });
        }
        Ok(images)
    }

    /// The names of one image, tags first.
    ///
    /// # Errors
    /// Those of reading the records.
    pub fn references_of(&self, id: ImageId) -> Result<Vec<Reference>, StoreError> {
        let records = self.references()?;
        let mut names: Vec<_> = records.into_iter().filter(|r| r.image == id).map(|r| r.reference).collect();
        names.sort_unstable_by_key(|r| (r.digest().is_some(), r.canonical()));
        Ok(names)
    }

    /// Makes `reference` a name of the image, taking it from any other.
    ///
    /// # Errors
    /// [`StoreError::NoSuchImage`].
    pub fn tag(&self, id: ImageId, reference: &Reference) -> Result<(), StoreError> {
        let _hold = self.hold()?;
        if !self.image_path(id).exists() {
            return Err(StoreError::NoSuchImage(id.to_string()));
        }
        let record = ReferenceRecord { reference: stored_form(reference), image: id };
        write_file(self.root(), &self.reference_path(&record.reference), &to_json(&record))
    }

    /// Takes a name away and gives the image it stood for. When it was the last tag of its repository on that
    /// image, the repository's digests go too, as with Docker.
    ///
    /// # Errors
    /// [`StoreError::NoSuchImage`].
    pub fn untag(&self, reference: &Reference) -> Result<ImageId, StoreError> {
        let stored = stored_form(reference);
        let Some(id) = self.lookup(&stored)? else {
            return Err(StoreError::NoSuchImage(reference.to_string()));
        };
        self.remove_reference(&stored)?;
        let same_repository = |r: &Reference| r.familiar_name() == stored.familiar_name();
        let rest: Vec<_> = self.references_of(id)?.into_iter().filter(same_repository).collect();
        if rest.iter().all(|r| r.digest().is_some()) {
            for digest in rest {
                self.remove_reference(&digest)?;
            }
        }
        Ok(id)
    }

    /// Removes an image and all its names; its blobs and layers go with the next `collect`. The caller has seen to
    /// it that no container needs it.
    ///
    /// # Errors
    /// [`StoreError::NoSuchImage`].
    pub fn remove(&self, id: ImageId) -> Result<(), StoreError> {
        for reference in self.references_of(id)? {
            self.remove_reference(&reference)?;
        }
        let path = self.image_path(id);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(StoreError::NoSuchImage(id.to_string())),
            other => other.map_err(at("remove", &path)),
        }
    }

    /// Stores an image of layers that are in the store already: the layers of `config.rootfs`, lowest first.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`] when one is missing.
    pub fn put_image(&self, config: &ImageConfig) -> Result<Image, StoreError> {
        let _hold = self.hold()?;
        let mut layers = Vec::new();
        for chain_id in ChainId::chain(config.rootfs.diff_ids.iter().copied()) {
            let Layer { diff_id, blob, .. } = self.layer(chain_id)?;
            layers.push(LayerRef { diff_id, chain_id, blob });
        }
        self.put_image_record(&config.to_bytes(), layers, None)
    }

    /// Stores an image from its configuration's very bytes.
    pub(crate) fn put_image_record(
        &self,
        config: &[u8],
        layers: Vec<LayerRef>,
        manifest: Option<Digest>,
    ) -> Result<Image, StoreError> {
        let id = ImageId(self.write_blob(config)?);
        let mut file_bytes = 0;
        for layer in &layers {
            file_bytes += self.layer(layer.chain_id)?.file_bytes;
        }
        // Found again by another road, an image keeps what it was pulled by.
        let known = read_record::<ImageRecord>(&self.image_path(id)).ok();
        let manifest = manifest.or(known.and_then(|record| record.manifest));
        let record = ImageRecord { layers, file_bytes, manifest };
        write_file(self.root(), &self.image_path(id), &to_json(&record))?;
        self.get(id)
    }

    /// The image's layers unpacked, topmost first, as overlayfs's `lowerdir` wants them.
    pub fn layer_dirs(&self, image: &Image) -> Vec<PathBuf> {
        image.layers.iter().rev().map(|layer| self.layer_path(layer.chain_id).join("diff")).collect()
    }

    pub(super) fn references(&self) -> Result<Vec<ReferenceRecord>, StoreError> {
        let dir = self.path("references");
        let mut records = Vec::new();
        for name in names_in(&dir)? {
            match read_record(&dir.join(name)) {
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                other => records.push(other?),
            }
        }
        Ok(records)
    }

    pub(super) fn image_ids(&self) -> Result<Vec<ImageId>, StoreError> {
        let names = names_in(&self.path("images"))?;
        let hex = names.iter().filter_map(|name| name.strip_suffix(".json"));
        Ok(hex.filter_map(|hex| format!("sha256:{hex}").parse().ok()).map(ImageId).collect())
    }

    fn find_by_prefix(&self, prefix: &str) -> Result<Option<ImageId>, StoreError> {
        if prefix.is_empty() || !prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let ids = self.image_ids()?;
        let mut found = ids.into_iter().filter(|id| id.0.hex().starts_with(prefix));
        Ok(match (found.next(), found.next()) {
            (Some(id), None) => Some(id),
            _ => None,
        })
    }

    pub(super) fn remove_reference(&self, reference: &Reference) -> Result<(), StoreError> {
        let path = self.reference_path(reference);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(at("remove", &path)),
        }
    }

    pub(super) fn image_path(&self, id: ImageId) -> PathBuf {
        self.path("images").join(format!("{}.json", id.0.hex()))
    }

    fn reference_path(&self, reference: &Reference) -> PathBuf {
        // A full name may be longer than a file's name can be.
        let hex = sha256(reference.canonical().as_bytes()).hex();
        self.path("references").join(format!("{hex}.json"))
    }
}

/// A name with tag and digest is stored, and found, by its digest alone.
fn stored_form(reference: &Reference) -> Reference {
    reference.digest().map_or_else(|| reference.clone(), |digest| reference.with_digest(digest))
}
