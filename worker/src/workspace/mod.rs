//! A run's private copy of the checkout, which every job has as the lower directory of its workspace's overlay.
//!
//! It is what a clean checkout would be, with what is not committed yet: tracked files as they are on disk and
//! untracked ones, but nothing that git ignores. On disk, below the directory that [`Snapshot::take`] is given: the
//! files, owned by whoever runs this (root), with modes 755 and 644 as git knows them and their modification times,
//! by which build tools tell what changed; and `.git`, in the main checkout as in linked worktrees and submodules a
//! real directory that needs nothing from outside (see `git_dir`).
//!
//! Nothing may write to it: it shares the inodes of git's objects with the user's repository.

mod copy;
mod git_dir;
mod list;

use std::io;
use std::path::{Path, PathBuf};

use engine::types::ErrorKind;

use crate::source::{self, SourceError};

/// A read-only copy of a checkout.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    files: Vec<PathBuf>,
    bytes: u64,
}

/// Why a checkout could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The repository could not be opened.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The files could not be listed.
    #[error("failed to list the files of {path}")]
    List {
        /// The checkout's root.
        path: PathBuf,
        /// Why.
        source: ignore::Error,
    },
    /// What git keeps could not be read.
    #[error("failed to read {path}")]
    Git {
        /// The file, or the repository.
        path: PathBuf,
        /// What libgit2 says.
        source: git2::Error,
    },
    /// A file could not be read or copied.
    #[error("failed to {action} {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl SnapshotError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Source(source) => source.kind(),
            Self::Git { .. } => ErrorKind::Corrupt,
            Self::List { .. } | Self::Io { .. } => ErrorKind::Internal,
        }
    }
}

impl Snapshot {
    /// Copies the checkout at `root` to `dir`, which must not exist, but its parent must. Blocks.
    ///
    /// # Errors
    /// See [`SnapshotError`]; `dir` is removed again.
    pub fn take(root: &Path, dir: &Path) -> Result<Self, SnapshotError> {
        std::fs::create_dir(dir).at("create", dir)?;
        let undo = RemoveOnDrop(dir);
        let dir = dir.canonicalize().at("resolve", dir)?;
        let root = root.canonicalize().at("resolve", root)?;
        let listing = list::list(&root, &dir)?;
        let copied = copy::copy(&root, &dir, listing.files)?;
        for repository in &listing.repositories {
            let opened = source::open(&root.join(repository))?;
            git_dir::copy(&opened, &dir.join(repository).join(list::DOT_GIT))?;
        }
        std::mem::forget(undo);
        Ok(Self { path: dir, files: copied.files, bytes: copied.bytes })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files and symbolic links, relative and sorted, but for git's own.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The bytes of its files, but for git's own.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Removes a copy that was not completed.
struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(self.0) {
            tracing::warn!(path = %self.0.display(), %error, "failed to remove an incomplete copy");
        }
    }
}

/// Names what was being done, and to which file.
trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, SnapshotError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, SnapshotError> {
        self.map_err(|e| SnapshotError::Io { action, path: path.to_owned(), source: e.into() })
    }
}

#[cfg(test)]
mod tests;
