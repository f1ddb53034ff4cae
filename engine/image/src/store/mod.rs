//! The image store on disk.
//!
//! ```text
//! <root>/
//!   lock                     flock: who adds or uses holds it shared, collect exclusive
//!   staging.lock             flock, held for the moment in which a staging entry is created or swept
//!   boot                     the boot in which the store was last checked, see `boot.rs`
//!   blobs/sha256/<hex>       configurations, manifests, and layers compressed as they were received
//!   layers/<chain id>/diff   one layer unpacked, as overlayfs wants it
//!   layers/<chain id>/layer.json
//!   images/<image id>.json   which layers an image has; the image exists while this file does
//!   references/<hex>.json    a name and its image; the file is called by the SHA-256 of the full name
//!   staging/<uuid>           what is being made; its maker holds an flock on it
//! ```
//!
//! Everything appears by rename, complete. Any number of processes may use a store at once; no state is kept in
//! memory. What `collect` removes is moved into `staging/` first, so a crash leaves nothing half removed.

mod boot;
mod collect;
mod commit;
mod error;
mod images;
mod ingest;
mod layers;
mod load;
mod save;
mod staging;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use engine_types::Digest;
use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

pub use collect::Reclaimed;
pub use error::StoreError;
pub use images::{Image, ImageSummary, LayerRef};
pub(crate) use ingest::{Expected, Ingested};
pub use layers::{ChainId, DiffId, Hashed, Layer, StagedLayer};
pub use load::{LoadError, Loaded};
pub use save::{ArchiveFormat, SaveError};

use crate::archive::Limits;
use error::at;

/// Images on disk. Cheap to clone; many processes may have the same root open at once.
#[derive(Debug, Clone)]
pub struct ImageStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    limits: Limits,
    /// The kernel's id of this boot.
    boot: String,
    /// What this process pulls: only one at a time pulls the same name.
    pulls: Mutex<HashMap<String, Turn>>,
}

type Turn = Arc<tokio::sync::Mutex<()>>;

/// Keeps `collect` from removing anything while it lives.
///
/// Whoever is about to need an image or layer that nothing names yet (a container being created, a build under way)
/// holds one until it is named.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

impl ImageStore {
    /// Opens the store at `root`, creating it if absent; removes what dead processes left half made.
    ///
    /// `proc` is the proc file system, which tells this boot from the last.
    ///
    /// # Errors
    /// When the directories cannot be made or read.
    pub fn open(root: &Path, proc: &Path) -> Result<Self, StoreError> {
        Self::with_limits(root, proc, Limits::default())
    }

    /// Opens the store with other limits on what one layer or archive may cost.
    ///
    /// # Errors
    /// As [`ImageStore::open`].
    pub fn with_limits(root: &Path, proc: &Path, limits: Limits) -> Result<Self, StoreError> {
        for dir in ["blobs/sha256", "layers", "images", "references", "staging"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).map_err(at("create", &path))?;
        }
        // Layers hold setuid programs of any age; no user of the host may get at them (as in CVE-2021-41091).
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).map_err(at("set the mode of", root))?;
        let boot = boot::current(proc)?;
        let store = Self(Arc::new(Inner { root: root.to_owned(), limits, boot, pulls: Mutex::default() }));
        store.sweep()?;
        store.check_after_boot()?;
        Ok(store)
    }

    /// What whoever pulls this name holds meanwhile.
    pub(crate) fn turn(&self, name: &str) -> Turn {
        let mut pulls = self.0.pulls.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds or waits for are over.
        pulls.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(pulls.entry(name.to_owned()).or_default())
    }

    /// Removes what dead processes left half made, as [`ImageStore::open`] does: for whoever has just ended the
    /// containers that were writing to it.
    ///
    /// # Errors
    /// When the staging directory cannot be locked or listed.
    pub fn sweep(&self) -> Result<(), StoreError> {
        staging::sweep(self.root())
    }

    /// Keeps `collect` away until the returned hold is dropped.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub fn hold(&self) -> Result<Hold, StoreError> {
        let path = self.path("lock");
        let file = self.lock_file()?;
        staging::lock(&file, FlockOperation::LockShared).map_err(at("lock", &path))?;
        Ok(Hold { _lock: file })
    }

    fn lock_file(&self) -> Result<File, StoreError> {
        let path = self.path("lock");
        File::options().create(true).append(true).open(&path).map_err(at("open", &path))
    }

    fn root(&self) -> &Path {
        &self.0.root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.root.join(name)
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.0.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn has_blob(&self, digest: Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Reads a small blob and checks its digest.
    pub(crate) fn read_blob(&self, digest: Digest, what: &'static str) -> Result<Vec<u8>, StoreError> {
        let path = self.blob_path(digest);
        let bytes = fs::read(&path).map_err(at("read", &path))?;
        let actual = sha256(&bytes);
        if actual != digest {
            return Err(StoreError::Digest { what, expected: digest, actual });
        }
        Ok(bytes)
    }

    /// Stores a small blob.
    pub(crate) fn write_blob(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = sha256(bytes);
        if !self.has_blob(digest) {
            staging::write_file(self.root(), &self.blob_path(digest), bytes)?;
        }
        Ok(digest)
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

fn finish(hasher: Sha256) -> Digest {
    Digest::from_sha256(hasher.finalize().into())
}

/// Hashes and counts what passes through to the inner reader or writer.
struct Hashing<T> {
    inner: T,
    hasher: Sha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    fn digest(&self) -> Digest {
        finish(self.hasher.clone())
    }
}

impl<T: io::Read> io::Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

impl<T: io::Write> io::Write for Hashing<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads a JSON record of the store.
fn read_record<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let bytes = fs::read(path).map_err(at("read", path))?;
    serde_json::from_slice(&bytes).map_err(|source| StoreError::Record { path: path.to_owned(), source })
}

fn to_json(record: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("records are plain structures of strings and numbers")
}

/// The entries of one of the store's directories, by name.
fn names_in(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(at("list", dir))? {
        names.push(entry.map_err(at("list", dir))?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests;
