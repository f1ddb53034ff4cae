//! What is being made: a file or directory under `staging/` whose maker holds an flock on it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use uuid::Uuid;

use super::error::{StoreError, at};

/// A directory that goes away when dropped, or when the next opener of the store finds its maker dead.
#[derive(Debug)]
pub(super) struct StagedDir {
    path: PathBuf,
    _lock: File,
}

impl StagedDir {
    /// Makes an empty directory in the store at `root`.
    pub(super) fn create(root: &Path) -> Result<Self, StoreError> {
        let path = new_path(root);
        let lock = locked(root, || {
            fs::create_dir(&path).map_err(at("create", &path))?;
            File::open(&path).map_err(at("open", &path))
        });
        Ok(Self { _lock: lock?, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// A file that takes its place by rename, so that no reader ever sees half of it.
#[derive(Debug)]
pub(super) struct StagedFile {
    path: PathBuf,
    file: File,
    placed: bool,
}

impl StagedFile {
    pub(super) fn create(root: &Path) -> Result<Self, StoreError> {
        let path = new_path(root);
        let file = locked(root, || {
            File::options().read(true).write(true).create_new(true).open(&path).map_err(at("create", &path))
        });
        Ok(Self { file: file?, path, placed: false })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn place(mut self, target: &Path) -> Result<(), StoreError> {
        fs::rename(&self.path, target).map_err(at("create", target))?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.placed {
            remove(&self.path);
        }
    }
}

/// Writes a file aside and renames it to `target`.
pub(super) fn write_file(root: &Path, target: &Path, content: &[u8]) -> Result<(), StoreError> {
    let staged = StagedFile::create(root)?;
    io::Write::write_all(&mut staged.file(), content).map_err(at("write", staged.path()))?;
    staged.place(target)
}

/// Removes the entries whose makers are dead.
pub(super) fn sweep(root: &Path) -> Result<(), StoreError> {
    let mut dead = Vec::new();
    {
        let _creation = creation_lock(root, FlockOperation::LockExclusive)?;
        let staging = root.join("staging");
        for entry in fs::read_dir(&staging).map_err(at("list", &staging))? {
            let path = entry.map_err(at("list", &staging))?.path();
            let Ok(file) = File::open(&path) else { continue };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                dead.push((path, file));
            }
        }
    }
    for (path, _lock) in dead {
        remove(&path);
    }
    Ok(())
}

fn new_path(root: &Path) -> PathBuf {
    root.join("staging").join(Uuid::now_v7().simple().to_string())
}

/// Creates an entry and takes its lock; a sweeper sees neither or both.
fn locked(root: &Path, create: impl FnOnce() -> Result<File, StoreError>) -> Result<File, StoreError> {
    let _creation = creation_lock(root, FlockOperation::LockShared)?;
    let file = create()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| at("lock a new entry of", &root.join("staging"))(e.into()))?;
    Ok(file)
}

fn creation_lock(root: &Path, operation: FlockOperation) -> Result<File, StoreError> {
    let path = root.join("staging.lock");
    let file = File::options().create(true).append(true).open(&path).map_err(at("open", &path))?;
    lock(&file, operation).map_err(at("lock", &path))?;
    Ok(file)
}

/// Takes a lock, waiting for it unless the operation says otherwise.
pub(super) fn lock(file: &File, operation: FlockOperation) -> io::Result<()> {
    loop {
        match flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// Removes a staged entry. What cannot be removed is left to the next sweep.
fn remove(path: &Path) {
    let result = match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::IsADirectory => fs::remove_dir_all(path),
        other => other,
    };
    match result {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), error = %e, "failed to remove a staged entry");
        }
        _ => {}
    }
}
