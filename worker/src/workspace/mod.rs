//! A run's private copy of the checkout, which every job has as the lower directory of its workspace's overlay.
//!
//! It is what a clean checkout would be, with what is not committed yet: tracked files as they are on disk and
//! untracked ones, but nothing that git ignores. [`Snapshot::path`] has the files, owned by whoever runs this (root),
//! with modes 755 and 644 as git knows them and their modification times, by which build tools tell what changed; and
//! `.git`, in the main checkout as in linked worktrees and submodules a real directory that needs nothing from outside
//! (see `git_dir`).
//!
//! It is kept after the run (see `store`), and the next run of the same checkout copies only what has changed. Nothing
//! may write to it: it shares the inodes of git's objects with the user's repository.

mod copy;
mod git_dir;
mod index;
mod list;
mod store;
mod update;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use engine::types::ErrorKind;

use crate::source::SourceError;

pub use store::SnapshotStore;

/// A read-only copy of a checkout. No other run changes it as long as this lives.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    files: Vec<PathBuf>,
    _lock: OwnedFd,
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
    /// More runs of one checkout go on than there may be.
    #[error("too many runs of {path} at the same time: wait for one of them to end")]
    TooManyRuns {
        /// The checkout's root.
        path: PathBuf,
    },
    /// The run is not wanted any more.
    #[error("cancelled while the checkout was being copied")]
    Cancelled,
}

impl SnapshotError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Source(source) => source.kind(),
            Self::Git { .. } => ErrorKind::Corrupt,
            Self::TooManyRuns { .. } => ErrorKind::Unavailable,
            Self::Cancelled => ErrorKind::Cancelled,
            Self::List { .. } | Self::Io { .. } => ErrorKind::Internal,
        }
    }
}

impl Snapshot {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files and symbolic links, relative and sorted, but for git's own.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
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
mod kept_tests;
#[cfg(test)]
mod tests;
