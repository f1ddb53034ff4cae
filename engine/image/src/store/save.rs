//! Images into archives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use engine_types::{Digest, ErrorKind, Reference};
use serde::Serialize;
use tar::{EntryType, Header};

use super::error::{StoreError, at};
use super::images::{Image, LayerRef};
use super::layers::LAYER_PACKING;
use super::staging::StagedFile;
use super::{Hashing, ImageStore, to_json};
use crate::archive::{Compression, PackError, pack};
use crate::manifest::{Descriptor, Index, Manifest, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Platform};

/// How images are archived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveFormat {
    /// What `docker save` writes since version 25: an OCI layout that also has a `manifest.json`.
    Docker,
    /// An OCI image layout (OCI image spec, image-layout.md).
    Oci,
}

/// A failure to archive images.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The archive could not be written.
    #[error("failed to write the image archive")]
    Write(#[source] io::Error),
    /// A layer's directory no longer gives the archive that its digest names.
    #[error("layer {expected} has changed on disk: its archive is now {actual}")]
    Changed {
        /// What the layer was.
        expected: Digest,
        /// What it is.
        actual: Digest,
    },
    /// An image could not be read.
    #[error("failed to read the image")]
    Store(#[from] StoreError),
}

impl SaveError {
    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Write(_) => ErrorKind::Internal,
            Self::Changed { .. } => ErrorKind::Corrupt,
            Self::Store(e) => e.kind(),
        }
    }
}

/// One entry of a docker-archive's `manifest.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

impl ImageStore {
    /// Writes images with the given names into one archive; an image without names is listed without.
    ///
    /// Blobs are written as they are stored. A layer that a build made is archived again from its directory.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub fn save(
        &self,
        images: &[(Image, Vec<Reference>)],
        out: impl Write,
        format: ArchiveFormat,
    ) -> Result<(), SaveError> {
        let _hold = self.hold()?;
        let mut saving = Saving { store: self, out, written: BTreeSet::new() };
        let mut index =
            Index { schema_version: 2, media_type: Some(OCI_INDEX.into()), manifests: Vec::new() };
        let mut entries = Vec::new();
        saving.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        for (image, names) in images {
            let (descriptor, manifest) = saving.image(image)?;
            entries.push(DockerEntry {
                config: blob_name(image.id.0),
                repo_tags: names.iter().filter(|n| n.digest().is_none()).map(ToString::to_string).collect(),
                layers: manifest.layers.iter().map(|layer| blob_name(layer.digest)).collect(),
            });
            if names.is_empty() {
                index.manifests.push(descriptor.clone());
            }
            for name in names {
                index.manifests.push(named(descriptor.clone(), name));
            }
        }
        saving.file("index.json", &to_json(&index))?;
        if format == ArchiveFormat::Docker {
            saving.file("manifest.json", &to_json(&entries))?;
        }
        saving.out.write_all(&[0; 1024]).map_err(SaveError::Write)?;
        saving.out.flush().map_err(SaveError::Write)
    }

    /// The manifest that describes an image: the one it was pulled by, or else one made of what is stored.
    pub(crate) fn manifest_of(&self, image: &Image) -> Result<(Vec<u8>, Manifest), SaveError> {
        if let Some(digest) = image.manifest {
            let bytes = self.read_blob(digest, "a manifest")?;
            if let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes)
                && manifest.layers.iter().all(|layer| self.has_blob(layer.digest))
            {
                return Ok((bytes, manifest));
            }
        }
        let config = self.read_blob(image.id.0, "an image configuration")?;
        let mut layers = Vec::new();
        for layer in &image.layers {
            layers.push(self.layer_blob(layer)?);
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.into()),
            config: Descriptor::new(OCI_CONFIG, image.id.0, config.len() as u64),
            layers,
        };
        Ok((to_json(&manifest), manifest))
    }

    /// The blob a layer is or, if there is none, the uncompressed archive it would be.
    fn layer_blob(&self, layer: &LayerRef) -> Result<Descriptor, StoreError> {
        match &layer.blob {
            Some(blob) if self.has_blob(blob.digest) => Ok(blob.clone()),
            _ => {
                let stored = self.layer(layer.chain_id)?;
                match stored.blob.filter(|blob| self.has_blob(blob.digest)) {
                    Some(blob) => Ok(blob),
                    None => Ok(Descriptor::layer(Compression::None, stored.diff_id.0, stored.archive_bytes)),
                }
            }
        }
    }
}

/// How hard layers are compressed: most of what the usual level saves, in half its time.
const GZIP_LEVEL: u32 = 4;

impl ImageStore {
    /// Keeps a layer as the compressed blob by which registries know it; one that has a blob keeps that.
    ///
    /// # Errors
    /// [`StoreError::Digest`] when the layer's directory has changed.
    pub(crate) fn compress_layer(&self, layer: &LayerRef) -> Result<Descriptor, StoreError> {
        let known = self.layer_blob(layer)?;
        if self.has_blob(known.digest) {
            return Ok(known);
        }
        let dir = self.layer(layer.chain_id)?.path;
        let staged = StagedFile::create(self.root())?;
        let descriptor = {
            let blob = Hashing::new(io::BufWriter::new(staged.file()));
            let gzip = flate2::write::GzEncoder::new(blob, flate2::Compression::new(GZIP_LEVEL));
            let packed = pack(&dir, LAYER_PACKING, Hashing::new(gzip)).map_err(StoreError::Pack)?;
            let actual = packed.out.digest();
            if actual != layer.diff_id.0 {
                return Err(StoreError::Digest { what: "a layer", expected: layer.diff_id.0, actual });
            }
            let mut blob = packed.out.inner.finish().map_err(at("write", staged.path()))?;
            io::Write::flush(&mut blob).map_err(at("write", staged.path()))?;
            Descriptor::layer(Compression::Gzip, blob.digest(), blob.bytes)
        };
        staged.place(&self.blob_path(descriptor.digest))?;
        self.set_layer_blob(layer.chain_id, &descriptor)?;
        Ok(descriptor)
    }
}

struct Saving<'a, W> {
    store: &'a ImageStore,
    out: W,
    /// Names already in the archive: images share layers.
    written: BTreeSet<String>,
}

impl<W: Write> Saving<'_, W> {
    fn image(&mut self, image: &Image) -> Result<(Descriptor, Manifest), SaveError> {
        let (bytes, manifest) = self.store.manifest_of(image)?;
        let digest = super::sha256(&bytes);
        let config = self.store.read_blob(image.id.0, "an image configuration")?;
        self.file(&blob_name(image.id.0), &config)?;
        for (layer, blob) in image.layers.iter().zip(&manifest.layers) {
            self.layer(layer, blob)?;
        }
        self.file(&blob_name(digest), &bytes)?;
        let media_type = manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST);
        let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        descriptor.platform = Some(Platform {
            os: image.config.os.clone(),
            architecture: image.config.architecture.clone(),
            variant: image.config.variant.clone(),
        });
        Ok((descriptor, manifest))
    }

    fn layer(&mut self, layer: &LayerRef, blob: &Descriptor) -> Result<(), SaveError> {
        let name = blob_name(blob.digest);
        if !self.written.insert(name.clone()) {
            return Ok(());
        }
        self.header(&name, blob.size)?;
        let (digest, bytes) = if self.store.has_blob(blob.digest) {
            let path: PathBuf = self.store.blob_path(blob.digest);
            let mut file = File::open(&path).map_err(at("open", &path))?;
            let mut out = Hashing::new(&mut self.out);
            io::copy(&mut file, &mut out).map_err(SaveError::Write)?;
            (out.digest(), out.bytes)
        } else {
            let out = io::BufWriter::new(Hashing::new(&mut self.out));
            let dir = self.store.layer(layer.chain_id)?.path;
            let packed = pack(&dir, LAYER_PACKING, out).map_err(|e| match e {
                PackError::Write(e) => SaveError::Write(e),
                other => StoreError::Pack(other).into(),
            })?;
            let out = packed.out.into_inner().map_err(|e| SaveError::Write(e.into_error()))?;
            (out.digest(), out.bytes)
        };
        if digest != blob.digest {
            return Err(SaveError::Changed { expected: blob.digest, actual: digest });
        }
        self.pad(bytes)
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), SaveError> {
        if !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        self.header(name, content.len() as u64)?;
        self.out.write_all(content).map_err(SaveError::Write)?;
        self.pad(content.len() as u64)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<(), SaveError> {
        let mut header = Header::new_gnu();
        header.set_path(name).map_err(SaveError::Write)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(SaveError::Write)
    }

    fn pad(&mut self, size: u64) -> Result<(), SaveError> {
        let padding = size.next_multiple_of(512) - size;
        self.out.write_all(&[0; 512][..padding as usize]).map_err(SaveError::Write)
    }
}

fn named(mut descriptor: Descriptor, name: &Reference) -> Descriptor {
    let mut annotations = BTreeMap::new();
    annotations.insert("io.containerd.image.name".to_owned(), name.canonical());
    let tag = name.tag().map_or_else(|| name.canonical(), str::to_owned);
    annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag);
    descriptor.annotations = Some(annotations);
    descriptor
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
