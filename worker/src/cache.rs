//! Caches that outlive runs, in a directory.
//!
//! `<root>/<SHA-256 of repository, key and paths>/` has an archive `<n>.tar.zst` for each path of the cache that
//! existed, by its place in the list. Such a directory appears by rename, complete, and is never changed: a key stands
//! for one content. Its time of modification is when it was last used. It is locked (flock), shared, while it is
//! read, and exclusively while it is taken away. `.new-*` directories are being written or removed, and locked by who
//! does; [`CacheStore::open`] sweeps those of the dead. The root is locked while one of them is made, so that none
//! is swept before it is locked.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use engine::image::archive::{PackError, PackOptions, Packer, UnpackError, UnpackOptions, unpack_into};
use engine::types::ErrorKind;
use globset::GlobBuilder;
use pipelines::WORKSPACE;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::inside::{Account, Inside};
use crate::workspace::Snapshot;

/// zstd's level: fast, for what is read about as often as written.
const COMPRESSION: i32 = 1;
/// The most bytes of all caches together: 20 GiB. Beyond it, those that were not used for the longest time go.
const STORE_MAX_BYTES: u64 = 20 << 30;
/// The names of directories that are not complete.
const ASIDE_PREFIX: &str = ".new-";
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The caches of one repository.
#[derive(Debug)]
pub struct CacheStore {
    root: PathBuf,
    repo: String,
    max_bytes: u64,
}

/// A cache that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file failed.
    #[error("cache {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An archive could not be written.
    #[error("failed to pack {path} into the cache")]
    Pack {
        /// The cache's path in the job.
        path: String,
        /// Why.
        source: PackError,
    },
    /// An archive could not be unpacked into the job.
    #[error("failed to unpack {path} from the cache")]
    Unpack {
        /// The cache's path in the job.
        path: String,
        /// Why.
        source: UnpackError,
    },
    /// An archive is not what was written. It was removed, so that the next run makes it anew.
    #[error("cache {key} was damaged and is removed")]
    Damaged {
        /// The cache's key.
        key: String,
        /// What is wrong with it.
        source: UnpackError,
    },
    /// A pattern of files to hash is none.
    #[error("pattern {pattern:?}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: globset::Error,
    },
}

impl CacheError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Internal,
            Self::Pack { source, .. } => source.kind(),
            Self::Unpack { source, .. } => source.kind(),
            Self::Damaged { .. } => ErrorKind::Corrupt,
            Self::Pattern { .. } => ErrorKind::InvalidArgument,
        }
    }
}

impl CacheStore {
    /// The caches of a repository below a directory, which is made if absent. Several processes may have it open.
    pub fn open(root: PathBuf, repo: &str) -> Result<Self, CacheError> {
        fs::create_dir_all(&root).at(&root)?;
        let store = Self { root, repo: repo.to_owned(), max_bytes: STORE_MAX_BYTES };
        store.sweep()?;
        Ok(store)
    }

    /// Puts a cache's paths into a container; false if there is none of that key.
    ///
    /// Paths are from the workspace, absolute, or from the home directory (`~/`). Whoever the files were of when they
    /// were saved, they belong to the job's user, unless he is root, who may have files of others.
    ///
    /// # Errors
    /// See [`CacheError`]; what was unpacked before the error remains in the container.
    pub fn restore(
        &self,
        inside: &Inside,
        account: &Account,
        key: &str,
        paths: &[String],
    ) -> Result<bool, CacheError> {
        let dir = self.dir(key, paths);
        let entry = match open_dir(&dir) {
            Ok(entry) => entry,
            Err(Errno::NOENT) => return Ok(false),
            Err(e) => return Err(e).at(&dir),
        };
        rustix::fs::flock(&entry, FlockOperation::LockShared).at(&dir)?;
        let locked = rustix::fs::fstat(&entry).at(&dir)?.st_ino;
        if rustix::fs::stat(&dir).map(|stat| stat.st_ino) != Ok(locked) {
            // It was taken away before it was locked.
            return Ok(false);
        }
        File::from(entry.try_clone().at(&dir)?).set_modified(SystemTime::now()).at(&dir)?;
        let restored = paths
            .iter()
            .enumerate()
            .try_for_each(|(n, path)| restore_path(inside, account, path, &dir.join(format!("{n}.tar.zst"))));
        drop(entry);
        match restored {
            Err(CacheError::Unpack { source, .. }) if is_damage(&source) => {
                self.discard(&dir)?;
                Err(CacheError::Damaged { key: key.to_owned(), source })
            }
            other => other.map(|()| true),
        }
    }

    /// Keeps a cache's paths, those that exist; false if the key is there already. A path that is a symbolic link is
    /// kept as one.
    ///
    /// # Errors
    /// See [`CacheError`]; nothing is kept.
    pub fn save(
        &self,
        inside: &Inside,
        home: &Path,
        key: &str,
        paths: &[String],
    ) -> Result<bool, CacheError> {
        let dir = self.dir(key, paths);
        if dir.is_dir() {
            return Ok(false);
        }
        let aside = self.aside()?;
        for (n, path) in paths.iter().enumerate() {
            save_path(inside, home, path, &aside.dir.path().join(format!("{n}.tar.zst")))?;
        }
        match fs::rename(aside.dir.path(), &dir) {
            Ok(()) => drop(aside.dir.keep()),
            // Another job was faster.
            Err(_) if dir.is_dir() => return Ok(false),
            Err(e) => return Err(e).at(&dir),
        }
        self.make_room(&dir)?;
        Ok(true)
    }

    fn dir(&self, key: &str, paths: &[String]) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [&self.repo, key].into_iter().chain(paths.iter().map(String::as_str)) {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        self.root.join(hex::encode(hash.finalize()))
    }

    /// A new directory beside the complete ones, on the same file system.
    fn aside(&self) -> Result<Aside, CacheError> {
        let root = open_dir(&self.root).at(&self.root)?;
        rustix::fs::flock(&root, FlockOperation::LockShared).at(&self.root)?;
        let dir = tempfile::Builder::new().prefix(ASIDE_PREFIX).tempdir_in(&self.root).at(&self.root)?;
        let lock = open_dir(dir.path()).at(dir.path())?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).at(dir.path())?;
        Ok(Aside { dir, _lock: lock })
    }

    /// Removes what dead processes left.
    fn sweep(&self) -> Result<(), CacheError> {
        let root = open_dir(&self.root).at(&self.root)?;
        rustix::fs::flock(&root, FlockOperation::LockExclusive).at(&self.root)?;
        for entry in fs::read_dir(&self.root).at(&self.root)? {
            let entry = entry.at(&self.root)?;
            if !entry.file_name().as_bytes().starts_with(ASIDE_PREFIX.as_bytes()) {
                continue;
            }
            let path = entry.path();
            let Ok(dir) = open_dir(&path) else { continue };
            if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
                fs::remove_dir_all(&path).at(&path)?;
            }
        }
        Ok(())
    }

    /// Takes a complete directory away, at once for everyone; not while somebody reads it.
    fn discard(&self, dir: &Path) -> Result<(), CacheError> {
        let aside = self.aside()?;
        let entry = match open_dir(dir) {
            Ok(entry) => entry,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e).at(dir),
        };
        if rustix::fs::flock(&entry, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(());
        }
        match fs::rename(dir, aside.dir.path().join("entry")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            moved => moved.at(dir),
        }
    }

    /// Discards what was not used for the longest time, but not `kept`, until the rest is not too large.
    fn make_room(&self, kept: &Path) -> Result<(), CacheError> {
        let mut entries = Vec::new();
        let mut total = 0;
        for entry in fs::read_dir(&self.root).at(&self.root)? {
            let path = entry.at(&self.root)?.path();
            // Another process may take it away meanwhile.
            let (Ok(meta), Ok(bytes)) = (path.metadata(), size(&path)) else { continue };
            total += bytes;
            if path != kept && meta.is_dir() {
                entries.push((meta.modified().at(&path)?, bytes, path));
            }
        }
        entries.sort();
        for (_, bytes, path) in entries {
            if total <= self.max_bytes {
                break;
            }
            self.discard(&path)?;
            total -= bytes;
        }
        Ok(())
    }
}

/// A directory that is removed unless it is kept, and locked as long as this lives.
struct Aside {
    dir: TempDir,
    _lock: OwnedFd,
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, DIRECTORY, Mode::empty())
}

/// The bytes of the files in a directory.
fn size(dir: &Path) -> io::Result<u64> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

/// Whether the archive is to blame, not the place it was unpacked to.
fn is_damage(error: &UnpackError) -> bool {
    !matches!(error, UnpackError::Destination { .. } | UnpackError::Write { .. })
}

/// Where a cache's path is in the container.
fn place(home: &Path, path: &str) -> PathBuf {
    match path.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => Path::new(WORKSPACE).join(path),
    }
}

fn restore_path(inside: &Inside, account: &Account, path: &str, archive: &Path) -> Result<(), CacheError> {
    let file = match File::open(archive) {
        Ok(file) => file,
        // It did not exist when the cache was saved.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).at(archive),
    };
    let place = place(&account.home, path);
    let parent = place.parent().unwrap_or(Path::new("/"));
    let parent = inside.make_dir(parent, account.owner).at(parent)?;
    let bytes = zstd::Decoder::new(file).at(archive)?;
    let owner = Some(account.owner).filter(|owner| owner.uid != 0);
    let unpacked = unpack_into(bytes, parent, &UnpackOptions { owner, ..UnpackOptions::default() });
    unpacked.map(drop).map_err(|source| CacheError::Unpack { path: path.to_owned(), source })
}

fn save_path(inside: &Inside, home: &Path, path: &str, archive: &Path) -> Result<(), CacheError> {
    let place = place(home, path);
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Ok(()) };
    let parent = match inside.open_dir(parent) {
        Ok(parent) => parent,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).at(parent),
    };
    match rustix::fs::statat(&parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e).at(&place),
    }
    let mut out = zstd::Encoder::new(File::create_new(archive).at(archive)?, COMPRESSION).at(archive)?;
    // A disk that forgets is noticed instead of unpacked.
    out.include_checksum(true).at(archive)?;
    let mut packer = Packer::new(out, PackOptions::default());
    // Through the descriptor, so that the container cannot move the directory away underneath.
    let source = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
    let packed = packer.add(&source, Path::new(name)).and_then(|()| packer.finish());
    let packed = packed.map_err(|source| CacheError::Pack { path: path.to_owned(), source })?;
    packed.out.finish().map(drop).at(archive)
}

/// The SHA-256 over the checkout's files that match a pattern, in order: their paths and contents, or where they lead
/// if they are links. Empty without a match.
pub fn hash_files(snapshot: &Snapshot, pattern: &str) -> Result<String, CacheError> {
    let matcher = GlobBuilder::new(pattern.trim_start_matches("./")).literal_separator(true).build();
    let failed = |source| CacheError::Pattern { pattern: pattern.to_owned(), source };
    let matcher = matcher.map_err(failed)?.compile_matcher();
    let mut files = snapshot.files().iter().filter(|path| matcher.is_match(path)).peekable();
    if files.peek().is_none() {
        return Ok(String::new());
    }
    let mut hash = Sha256::new();
    for path in files {
        let contents = contents_hash(&snapshot.path().join(path))?;
        let name = path.as_os_str().as_bytes();
        // Lengths, so that no two lists of files come to the same bytes.
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update(contents);
    }
    Ok(hex::encode(hash.finalize()))
}

fn contents_hash(path: &Path) -> Result<[u8; 32], CacheError> {
    let mut hash = Sha256::new();
    if path.is_symlink() {
        hash.update(fs::read_link(path).at(path)?.as_os_str().as_bytes());
        return Ok(hash.finalize().into());
    }
    let mut file = File::open(path).at(path)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer).at(path)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// Names the file that an error belongs to.
trait At<T> {
    fn at(self, path: &Path) -> Result<T, CacheError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, CacheError> {
        self.map_err(|e| CacheError::Io { path: path.to_owned(), source: e.into() })
    }
}

#[cfg(test)]
mod tests;
