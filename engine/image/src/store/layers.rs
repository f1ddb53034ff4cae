use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine_types::Digest;
use serde::{Deserialize, Serialize};

use super::error::{StoreError, at};
use super::staging::{StagedDir, write_file};
use super::{Hashing, ImageStore, read_record, sha256, to_json};
use crate::archive::{PackOptions, Whiteouts, pack};
use crate::manifest::Descriptor;

/// The digest of a layer's uncompressed archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// Names a layer together with all below it.
///
/// OCI image spec, config.md, "Layer ChainID".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The id of a layer on top of `parent`.
    pub fn of(parent: Option<Self>, diff_id: DiffId) -> Self {
        match parent {
            None => Self(diff_id.0),
            Some(parent) => Self(sha256(format!("{parent} {diff_id}").as_bytes())),
        }
    }

    /// The ids of a stack of layers, lowest first.
    pub fn chain(diff_ids: impl IntoIterator<Item = DiffId>) -> Vec<Self> {
        let mut chain: Vec<Self> = Vec::new();
        for diff_id in diff_ids {
            chain.push(Self::of(chain.last().copied(), diff_id));
        }
        chain
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its id, which includes those of the layers below.
    pub chain_id: ChainId,
    /// The digest of its uncompressed archive.
    pub diff_id: DiffId,
    /// The layer below.
    pub parent: Option<ChainId>,
    /// Bytes of its uncompressed archive.
    pub archive_bytes: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
    /// Where it lies unpacked.
    pub path: PathBuf,
    pub(super) blob: Option<Descriptor>,
}

/// `layers/<chain id>/layer.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    pub(super) diff_id: DiffId,
    pub(super) parent: Option<ChainId>,
    pub(super) archive_bytes: u64,
    pub(super) file_bytes: u64,
    /// The layer as it was received; `None` for layers that builds made.
    pub(super) blob: Option<Descriptor>,
    /// The boot in which it was unpacked, and whether all of it is known to be on the disk.
    pub(super) boot: String,
    pub(super) synced: bool,
}

/// A layer being made: an upper and a work directory for overlayfs, removed on drop unless adopted.
#[derive(Debug)]
pub struct StagedLayer {
    staged: StagedDir,
}

impl StagedLayer {
    /// The directory that becomes the layer. Mount it without `redirect_dir` and `metacopy`, whose results only
    /// make sense above the very same lower directories. Its path is good until the layer is adopted.
    pub fn upper(&self) -> PathBuf {
        self.staged.path().join("layer/diff")
    }

    /// overlayfs's work directory, on the same file system.
    pub fn work(&self) -> PathBuf {
        self.staged.path().join("work")
    }

    fn layer(&self) -> PathBuf {
        self.staged.path().join("layer")
    }

    pub(super) fn into_dir(self) -> StagedDir {
        self.staged
    }

    /// Hashes the archive that the upper directory would be. Nothing may write there any more.
    ///
    /// # Errors
    /// [`StoreError::Pack`].
    pub fn hash(&self) -> Result<Hashed, StoreError> {
        hash_dir(&self.upper())
    }
}

/// What [`StagedLayer::hash`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    /// The digest of the uncompressed archive.
    pub diff_id: DiffId,
    /// Its length in bytes.
    pub archive_bytes: u64,
    /// Bytes of its files.
    pub file_bytes: u64,
}

pub(super) const LAYER_PACKING: PackOptions = PackOptions { whiteouts: Whiteouts::Overlay, owner: None };

fn hash_dir(dir: &Path) -> Result<Hashed, StoreError> {
    let out = io::BufWriter::with_capacity(HASH_BUFFER_BYTES, Hashing::new(io::sink()));
    let packed = pack(dir, LAYER_PACKING, out).map_err(StoreError::Pack)?;
    let out = packed.out.into_inner().map_err(|e| StoreError::Io {
        action: "hash",
        path: dir.to_owned(),
        source: e.into_error(),
    })?;
    Ok(Hashed { diff_id: DiffId(out.digest()), archive_bytes: out.bytes, file_bytes: packed.file_bytes })
}

const HASH_BUFFER_BYTES: usize = 64 * 1024;

impl ImageStore {
    /// Makes an empty upper and work directory on the file system of the layers.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn stage(&self) -> Result<StagedLayer, StoreError> {
        let staged = StagedDir::create(self.root())?;
        for dir in ["layer/diff", "work"] {
            let path = staged.path().join(dir);
            fs::create_dir_all(&path).map_err(at("create", &path))?;
        }
        Ok(StagedLayer { staged })
    }

    /// Makes the staged directory a layer on top of `parent` by rename. A layer that exists already wins, and the
    /// staged copy is dropped.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`] for an unknown parent; those of the file system.
    pub fn adopt(
        &self,
        staged: StagedLayer,
        parent: Option<ChainId>,
        hashed: Hashed,
    ) -> Result<Layer, StoreError> {
        self.adopt_with(&staged, parent, hashed, None)
    }

    /// As [`ImageStore::adopt`] for a layer that may be mounted as another's lower directory: if the layer exists
    /// already, the staged copy stays until it is dropped, which must be after the mount.
    ///
    /// # Errors
    /// As [`ImageStore::adopt`].
    pub fn adopt_mounted(
        &self,
        staged: &StagedLayer,
        parent: Option<ChainId>,
        hashed: Hashed,
    ) -> Result<Layer, StoreError> {
        self.adopt_with(staged, parent, hashed, None)
    }

    pub(super) fn adopt_with(
        &self,
        staged: &StagedLayer,
        parent: Option<ChainId>,
        hashed: Hashed,
        blob: Option<Descriptor>,
    ) -> Result<Layer, StoreError> {
        let _hold = self.hold()?;
        if let Some(parent) = parent {
            self.layer(parent)?;
        }
        let chain_id = ChainId::of(parent, hashed.diff_id);
        let record = LayerRecord {
            diff_id: hashed.diff_id,
            parent,
            archive_bytes: hashed.archive_bytes,
            file_bytes: hashed.file_bytes,
            blob,
            boot: self.0.boot.clone(),
            synced: false,
        };
        let record_path = staged.layer().join("layer.json");
        fs::write(&record_path, to_json(&record)).map_err(at("write", &record_path))?;
        let target = self.layer_path(chain_id);
        match fs::rename(staged.layer(), &target) {
            Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) => {
            }
            other => other.map_err(at("create", &target))?,
        }
        // What the rename left, the work directory or all of it, goes when the caller drops it.
        self.layer(chain_id)
    }

    /// A layer of the store.
    ///
    /// # Errors
    /// [`StoreError::NoSuchLayer`].
    pub fn layer(&self, chain_id: ChainId) -> Result<Layer, StoreError> {
        let dir = self.layer_path(chain_id);
        let record: LayerRecord = match read_record(&dir.join("layer.json")) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NoSuchLayer(chain_id.0));
            }
            other => other?,
        };
        Ok(Layer {
            chain_id,
            diff_id: record.diff_id,
            parent: record.parent,
            archive_bytes: record.archive_bytes,
            file_bytes: record.file_bytes,
            path: dir.join("diff"),
            blob: record.blob,
        })
    }

    /// Notes that the layer can be unpacked again from a blob.
    pub(crate) fn set_layer_blob(&self, chain_id: ChainId, blob: &Descriptor) -> Result<(), StoreError> {
        let path = self.layer_path(chain_id).join("layer.json");
        let mut record: LayerRecord = read_record(&path)?;
        if record.blob.as_ref().is_none_or(|known| !self.has_blob(known.digest)) {
            record.blob = Some(blob.clone());
            write_file(self.root(), &path, &to_json(&record))?;
        }
        Ok(())
    }

    pub(super) fn layer_path(&self, chain_id: ChainId) -> PathBuf {
        self.path("layers").join(chain_id.0.hex())
    }
}
