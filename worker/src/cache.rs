//! Caches that outlive runs, in a directory.
//!
//! `<root>/<SHA-256 of repository and key>/` has an archive `<n>.tar.zst` for each path of the cache, in the file's
//! order. The directory appears by rename, complete, and is never changed: a key stands for one content.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use engine::image::archive::{PackError, PackOptions, Packer, UnpackError, UnpackOptions, unpack_into};
use pipelines::WORKSPACE;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};

use crate::inside::Inside;

/// zstd's level: fast, for what is read about as often as written.
const COMPRESSION: i32 = 1;

/// The caches of one repository.
#[derive(Debug)]
pub struct CacheStore {
    root: PathBuf,
    /// Where archives are made.
    scratch: PathBuf,
    repo: String,
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
    #[error("pack {path} into the cache")]
    Pack {
        /// The cache's path in the job.
        path: String,
        /// Why.
        source: PackError,
    },
    /// An archive could not be unpacked.
    #[error("unpack {path} from the cache")]
    Unpack {
        /// The cache's path in the job.
        path: String,
        /// Why.
        source: UnpackError,
    },
}

impl CacheStore {
    /// The caches of a repository below a directory, which is made if absent. New ones are made in `scratch`, on the
    /// same file system, which somebody clears if this process dies.
    pub fn open(root: PathBuf, scratch: &Path, repo: &str) -> Result<Self, CacheError> {
        fs::create_dir_all(&root).map_err(|source| CacheError::Io { path: root.clone(), source })?;
        Ok(Self { root, scratch: scratch.to_owned(), repo: repo.to_owned() })
    }

    /// Puts a cache's paths into a container; false if there is none of that key. What cannot be read is removed, so
    /// that the next run makes it anew.
    pub fn restore(
        &self,
        inside: &Inside,
        home: &Path,
        key: &str,
        paths: &[String],
    ) -> Result<bool, CacheError> {
        let dir = self.dir(key, paths);
        if !dir.is_dir() {
            return Ok(false);
        }
        let restored = paths.iter().enumerate().try_for_each(|(n, path)| {
            let archive = dir.join(format!("{n}.tar.zst"));
            restore_path(inside, home, path, &archive)
        });
        if restored.is_err() {
            // Best effort: what stays fails the next time in the same way.
            let _ = fs::remove_dir_all(&dir);
        }
        restored.map(|()| true)
    }

    /// Keeps a cache's paths, those that exist; false if the key is there already.
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
        let io_failed = |source| CacheError::Io { path: dir.clone(), source };
        let aside = tempfile::Builder::new().prefix("cache-").tempdir_in(&self.scratch).map_err(io_failed)?;
        for (n, path) in paths.iter().enumerate() {
            save_path(inside, home, path, &aside.path().join(format!("{n}.tar.zst")))?;
        }
        match fs::rename(aside.path(), &dir) {
            Ok(()) => {
                drop(aside.keep());
                Ok(true)
            }
            // Another job was faster.
            Err(_) if dir.is_dir() => Ok(false),
            Err(source) => Err(io_failed(source)),
        }
    }

    fn dir(&self, key: &str, paths: &[String]) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [&self.repo, key].into_iter().chain(paths.iter().map(String::as_str)) {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        self.root.join(hex::encode(hash.finalize()))
    }
}

/// Where a cache's path is in the container: absolute, in the home directory, or in the workspace.
fn place(home: &Path, path: &str) -> PathBuf {
    match path.strip_prefix("~/") {
        Some(rest) => home.join(rest),
        None => Path::new(WORKSPACE).join(path),
    }
}

fn restore_path(inside: &Inside, home: &Path, path: &str, archive: &Path) -> Result<(), CacheError> {
    let at = |source| CacheError::Io { path: archive.to_owned(), source };
    let file = match File::open(archive) {
        Ok(file) => file,
        // It did not exist when the cache was saved.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(at(e)),
    };
    let place = place(home, path);
    let parent = inside.make_dir(place.parent().unwrap_or(Path::new("/"))).map_err(at)?;
    let bytes = zstd::Decoder::new(file).map_err(at)?;
    let unpacked = unpack_into(bytes, parent, &UnpackOptions::default());
    unpacked.map(drop).map_err(|source| CacheError::Unpack { path: path.to_owned(), source })
}

fn save_path(inside: &Inside, home: &Path, path: &str, archive: &Path) -> Result<(), CacheError> {
    use std::os::fd::AsRawFd;
    let at = |source| CacheError::Io { path: archive.to_owned(), source };
    let place = place(home, path);
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return Ok(()) };
    let parent = match inside.open_dir(parent) {
        Ok(parent) => parent,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(at(e)),
    };
    let exists =
        rustix::fs::openat(&parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    if exists.is_err() {
        return Ok(());
    }
    let out = zstd::Encoder::new(File::create(archive).map_err(at)?, COMPRESSION).map_err(at)?;
    let mut packer = Packer::new(out, PackOptions::default());
    // Through the descriptor, so that the container cannot move the directory away underneath.
    let source = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join(name);
    let packed = packer.add(&source, Path::new(name)).and_then(|()| packer.finish());
    let packed = packed.map_err(|source| CacheError::Pack { path: path.to_owned(), source })?;
    packed.out.finish().map(drop).map_err(at)
}

/// The SHA-256 of the files below a directory that match a pattern: their paths and contents, in order. Without a
/// match it is empty.
pub fn hash_files(root: &Path, pattern: &str) -> io::Result<String> {
    let matcher = globset::GlobBuilder::new(pattern).literal_separator(true).build();
    let matcher = matcher.map_err(io::Error::other)?.compile_matcher();
    let mut files = Vec::new();
    list(root, Path::new(""), &mut files)?;
    files.retain(|path| matcher.is_match(path));
    if files.is_empty() {
        return Ok(String::new());
    }
    files.sort();
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    for path in files {
        hash.update(path.as_os_str().as_encoded_bytes());
        hash.update([0]);
        let mut file = File::open(root.join(&path))?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => hash.update(&buffer[..length]),
            }
        }
        hash.update([0]);
    }
    Ok(hex::encode(hash.finalize()))
}

fn list(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        match entry.file_type()? {
            kind if kind.is_dir() && path != Path::new(".git") => list(root, &path, files)?,
            kind if kind.is_file() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(dir: &Path) -> Inside {
        fs::create_dir_all(dir.join("workspace")).unwrap();
        Inside::new(File::open(dir).unwrap().into())
    }

    #[test]
    fn what_was_saved_is_restored_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let store = CacheStore::open(dir.path().join("caches"), dir.path(), "shop").unwrap();
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        let (one, two) = (inside(&first), inside(&second));
        let paths = ["target".to_owned(), "~/.cargo/registry".to_owned(), "absent".to_owned()];
        fs::create_dir_all(first.join("workspace/target/deep")).unwrap();
        fs::write(first.join("workspace/target/deep/o"), "object").unwrap();
        fs::create_dir_all(first.join("root/.cargo/registry")).unwrap();
        fs::write(first.join("root/.cargo/registry/i"), "index").unwrap();
        let home = Path::new("/root");
        assert!(!store.restore(&two, home, "k", &paths).unwrap());
        assert!(store.save(&one, home, "k", &paths).unwrap());
        assert!(!store.save(&one, home, "k", &paths).unwrap(), "a key stands for one content");
        assert!(store.restore(&two, home, "k", &paths).unwrap());
        assert_eq!(fs::read_to_string(second.join("workspace/target/deep/o")).unwrap(), "object");
        assert_eq!(fs::read_to_string(second.join("root/.cargo/registry/i")).unwrap(), "index");
        assert!(!store.restore(&two, home, "other", &paths).unwrap());
    }

    #[test]
    fn a_damaged_entry_is_an_error_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = CacheStore::open(dir.path().join("caches"), dir.path(), "shop").unwrap();
        let one = inside(&dir.path().join("a"));
        let paths = ["f".to_owned()];
        fs::write(dir.path().join("a/workspace/f"), "x").unwrap();
        store.save(&one, Path::new("/root"), "k", &paths).unwrap();
        fs::write(store.dir("k", &paths).join("0.tar.zst"), "garbage").unwrap();
        assert!(store.restore(&one, Path::new("/root"), "k", &paths).is_err());
        assert!(!store.restore(&one, Path::new("/root"), "k", &paths).unwrap());
    }

    #[test]
    fn hashes_follow_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Cargo.lock"), "1").unwrap();
        let first = hash_files(dir.path(), "**/Cargo.lock").unwrap();
        fs::write(dir.path().join("Cargo.lock"), "2").unwrap();
        assert_ne!(first, hash_files(dir.path(), "**/Cargo.lock").unwrap());
        assert_eq!(hash_files(dir.path(), "none").unwrap(), "");
    }
}
