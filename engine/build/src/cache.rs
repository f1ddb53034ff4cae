//! What earlier builds made.
//!
//! ```text
//! <dir>/steps/<key>.json   the layer that a step made; its modification time is that of its last use
//! <dir>/files/<hex>        hashes of files, see `files.rs`
//! ```
//!
//! Records appear by rename and are never changed, so any number of processes may build at once. A record that cannot
//! be read, or whose layer is gone, is as good as none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use engine_image::{ChainId, DiffId, ImageStore};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::BuildError;
use crate::files::FileHashes;

/// Names what a step starts from and all that its result depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// Builds a key of parts; no two lists of parts give the same one.
pub(crate) struct KeyHasher(Sha256);

/// A layer that a step made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    pub(crate) diff_id: DiffId,
    pub(crate) chain_id: ChainId,
    /// When the step ran, RFC 3339.
    pub(crate) created: String,
    /// The step as an image's history shows it.
    #[serde(default)]
    pub(crate) description: String,
}

/// What the cache knows of a step, for whoever lists and prunes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedStep {
    /// Names it, in hexadecimal digits.
    pub id: String,
    /// The layer that it made, with all below.
    pub chain_id: ChainId,
    /// When the step ran, RFC 3339.
    pub created: String,
    /// When a build last made or used it.
    pub last_used: SystemTime,
    /// The step as an image's history shows it.
    pub description: String,
}

/// What the cache at `dir` knows. Records that cannot be read are left out.
///
/// # Errors
/// When the directory cannot be listed; one that is not there is an empty cache.
pub fn cached_steps(dir: &Path) -> io::Result<Vec<CachedStep>> {
    let entries = match fs::read_dir(dir.join("steps")) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut steps = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json")) else {
            continue;
        };
        let (Ok(bytes), Ok(meta)) = (fs::read(&path), fs::metadata(&path)) else { continue };
        let (Ok(record), Ok(last_used)) = (serde_json::from_slice::<StepRecord>(&bytes), meta.modified())
        else {
            continue;
        };
        let StepRecord { chain_id, created, description, .. } = record;
        steps.push(CachedStep { id: id.to_owned(), chain_id, created, last_used, description });
    }
    Ok(steps)
}

/// Forgets a step of the cache at `dir`; one that is gone is as good.
///
/// # Errors
/// Those of removing its record.
pub fn forget_step(dir: &Path, step: &CachedStep) -> io::Result<()> {
    match fs::remove_file(dir.join("steps").join(format!("{}.json", step.id))) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The cache's directory.
#[derive(Debug, Clone)]
pub(crate) struct BuildCache {
    dir: PathBuf,
}

impl Key {
    /// The key in hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        engine_types::Digest::from_sha256(self.0).hex()
    }

    pub(crate) fn of(kind: &str) -> KeyHasher {
        // Changing what steps do changes this number, so that no old record is taken for a new one.
        KeyHasher(Sha256::new()).part(b"engine-build 2").part(kind)
    }
}

impl KeyHasher {
    pub(crate) fn part(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn key(self, key: Key) -> Self {
        self.part(key.0)
    }

    pub(crate) fn parts<T: AsRef<[u8]>>(self, parts: impl IntoIterator<Item = T>) -> Self {
        let parts: Vec<T> = parts.into_iter().collect();
        let counted = self.part((parts.len() as u64).to_le_bytes());
        parts.into_iter().fold(counted, Self::part)
    }

    pub(crate) fn finish(self) -> Key {
        Key(self.0.finalize().into())
    }
}

impl BuildCache {
    /// Uses the directory, creating it if absent.
    pub(crate) fn open(dir: &Path) -> Result<Self, BuildError> {
        for name in ["steps", "files"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(|source| BuildError::Cache {
                action: "create",
                path: path.clone(),
                source,
            })?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// The hashes of the files of a context.
    pub(crate) fn files(&self, context: &Path) -> FileHashes {
        let name = Key::of("context").part(context.as_os_str().as_encoded_bytes()).finish();
        FileHashes::new(self.dir.join("files").join(name.hex()))
    }

    /// What the step made on top of `parent`, if its layer is still there.
    pub(crate) fn find(&self, key: Key, parent: Option<ChainId>, store: &ImageStore) -> Option<StepRecord> {
        let path = self.path(key);
        let record: StepRecord = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        // The same step on a layer that was made again, differently, left its result on the old one.
        if record.chain_id != ChainId::of(parent, record.diff_id) || store.layer(record.chain_id).is_err() {
            return None;
        }
        let now = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        // Only tells pruning what is in use; a cache that cannot be written is still good to read.
        let _ = rustix::fs::utimensat(CWD, &path, &now, AtFlags::empty());
        Some(record)
    }

    /// Remembers what a step made. Losing it only costs time, so failures are not reported.
    pub(crate) fn put(&self, key: Key, record: &StepRecord) {
        let path = self.path(key);
        let bytes = serde_json::to_vec(record).expect("a record is a plain structure of strings");
        if let Err(error) = replace_file(&path, &bytes) {
            tracing::debug!(path = %path.display(), %error, "a build step is not remembered");
        }
    }

    fn path(&self, key: Key) -> PathBuf {
        self.dir.join("steps").join(format!("{}.json", key.hex()))
    }
}

/// Writes a file aside and renames it. It is not synced: after a power cut it may be empty, which readers bear.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}-{number}", std::process::id()));
    let aside = PathBuf::from(aside);
    fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, path)).inspect_err(|_| {
        // Nothing but what was just written is lost.
        let _ = fs::remove_file(&aside);
    })
}
