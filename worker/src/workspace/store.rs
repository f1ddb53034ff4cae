//! Snapshots that are kept between runs.
//!
//! Below `<engine root>/snapshots`, which only root may enter, since a checkout may be private, is a directory
//! `<SHA-256 of the checkout's path>-<n>` for each run of a checkout that goes on at the same time. It has the files in
//! `tree` and says in `index` what they were made of (see [`super::index`]). It is locked (flock) as long as a run has
//! its tree mounted, so that a tree is only changed while nobody uses it. One without an index is unfinished, left by
//! a run that was killed. [`SnapshotStore::take`] completes its own and removes those of other checkouts, and those
//! that were not used for the longest time until the rest is within bounds: [`MAX_SNAPSHOTS`], [`MAX_BYTES`],
//! [`MAX_AGE`].

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use engine::types::Paths;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::index::{self, Index};
use super::update::{unknown, update};
use super::{At, Snapshot, SnapshotError};

/// How many snapshots are kept.
const MAX_SNAPSHOTS: usize = 32;
/// How much they may take together: 20 GiB.
const MAX_BYTES: u64 = 20 << 30;
/// How long one is kept that is not used.
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// How many runs of one checkout may go on at the same time.
const MAX_RUNS: usize = 256;
/// Bytes of a checkout's hash that name its snapshots.
const NAME_BYTES: usize = 16;
const TREE: &str = "tree";
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The snapshots of all checkouts.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    engine_root: PathBuf,
    boot_id: String,
}

/// A snapshot's directory, and its lock.
struct Slot {
    path: PathBuf,
    lock: OwnedFd,
}

impl SnapshotStore {
    /// The store of an engine's root. Several processes may have it open.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn open(paths: &Paths) -> Result<Self, SnapshotError> {
        let dir = paths.root.join("snapshots");
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made.at("create", &dir)?;
                spread(&dir);
            }
        }
        let engine_root = paths.root.canonicalize().at("resolve", &paths.root)?;
        Ok(Self { dir, engine_root, boot_id: index::boot_id(&paths.proc)? })
    }

    /// Takes a snapshot of the checkout at `root`. Blocks; where `cancelled` says so, not much longer.
    ///
    /// # Errors
    /// See [`SnapshotError`]; nothing is left then, but by one that was cancelled, which may be unfinished.
    pub fn take(
        &self,
        root: &Path,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Snapshot, SnapshotError> {
        let root = root.canonicalize().at("resolve", root)?;
        let slot = self.free_slot(&root)?;
        // Room is made before it is needed.
        self.sweep()?;
        match self.update(&root, &slot, cancelled) {
            Ok(files) => Ok(Snapshot { path: slot.path.join(TREE), files, _lock: slot.lock }),
            // As if killed: what is there is of use to the next run.
            Err(SnapshotError::Cancelled) => Err(SnapshotError::Cancelled),
            Err(error) => {
                // What went wrong first says more; the next run's sweep tries again.
                let _ = slot.discard();
                Err(error)
            }
        }
    }

    fn update(
        &self,
        root: &Path,
        slot: &Slot,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<PathBuf>, SnapshotError> {
        let tree = slot.path.join(TREE);
        let before = Index::load(&slot.path, &self.boot_id);
        Index::remove(&slot.path)?;
        let before = match before {
            Some(before) => before,
            None => unknown(&tree)?,
        };
        // An engine's root in the checkout is no source; the checkout may be in an engine's root, too.
        let except = if root.starts_with(&self.engine_root) { &self.dir } else { &self.engine_root };
        let index = update(root, &tree, except, before, cancelled)?;
        index.store(&slot.path, &self.boot_id)?;
        Ok(index.files.into_iter().map(|file| file.path).collect())
    }

    /// The first of a checkout's snapshots that no run uses, made if absent.
    fn free_slot(&self, root: &Path) -> Result<Slot, SnapshotError> {
        let hash = hex::encode(&Sha256::digest(root.as_os_str().as_bytes())[..NAME_BYTES]);
        for number in 0..MAX_RUNS {
            let path = self.dir.join(format!("{hash}-{number}"));
            if let Some(slot) = Slot::lock(path, true)? {
                return Ok(slot);
            }
        }
        Err(SnapshotError::TooManyRuns { path: root.to_owned() })
    }

    /// Removes what is unfinished, too old or too much and not in use.
    fn sweep(&self) -> Result<(), SnapshotError> {
        let now = SystemTime::now();
        let (mut kept, mut bytes) = (0, 0);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir).at("list", &self.dir)? {
            let path = entry.at("list", &self.dir)?.path();
            let used = path.join(index::FILE).metadata().and_then(|meta| meta.modified());
            entries.push((used.unwrap_or(SystemTime::UNIX_EPOCH), path));
        }
        entries.sort_unstable_by(|a, b| b.cmp(a));
        for (used, path) in entries {
            let size = Index::tree_bytes(&path, &self.boot_id);
            let is_old = now.duration_since(used).is_ok_and(|age| age > MAX_AGE);
            let fits = size.is_some_and(|size| kept < MAX_SNAPSHOTS && bytes + size <= MAX_BYTES);
            if fits && !is_old {
                kept += 1;
                bytes += size.unwrap_or_default();
            } else if let Some(slot) = Slot::lock(path, false)? {
                slot.discard()?;
            }
        }
        Ok(())
    }
}

impl Slot {
    /// Locks a snapshot's directory; `None` if it is in use. One that is gone is made if asked for.
    fn lock(path: PathBuf, make: bool) -> Result<Option<Self>, SnapshotError> {
        loop {
            if make {
                match fs::create_dir(&path) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                    made => made.at("create", &path)?,
                }
            }
            let lock = match rustix::fs::open(&path, DIRECTORY, Mode::empty()) {
                Ok(lock) => lock,
                Err(Errno::NOENT) if make => continue,
                Err(Errno::NOENT) => return Ok(None),
                Err(e) => return Err(e).at("open", &path),
            };
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(e) => return Err(e).at("lock", &path),
            }
            // Whoever had it before may have removed it.
            let locked = rustix::fs::fstat(&lock).at("inspect", &path)?.st_ino;
            match rustix::fs::stat(&path) {
                Ok(stat) if stat.st_ino == locked => return Ok(Some(Self { path, lock })),
                Ok(_) | Err(Errno::NOENT) if make => {}
                Ok(_) | Err(Errno::NOENT) => return Ok(None),
                Err(e) => return Err(e).at("inspect", &path),
            }
        }
    }

    /// Removes it, the index first, so that nobody takes the rest for a snapshot if this is interrupted.
    fn discard(self) -> Result<(), SnapshotError> {
        Index::remove(&self.path)?;
        fs::remove_dir_all(&self.path).at("remove", &self.path)
    }
}

/// Has ext4 put each snapshot where there is room instead of beside what containers make and remove all the time: for a
/// minute it steps over each inode that was freed before it takes another, which costs thousands of files seconds.
fn spread(dir: &Path) {
    // Other file systems know no such flag and need none.
    let _ = rustix::fs::open(dir, DIRECTORY, Mode::empty()).and_then(|dir| {
        let flags = rustix::fs::ioctl_getflags(&dir)?;
        rustix::fs::ioctl_setflags(&dir, flags | rustix::fs::IFlags::TOPDIR)
    });
}
