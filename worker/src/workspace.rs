//! A private copy of a checkout, as a clean checkout would be plus what is not committed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use git2::{Repository, Status, StatusOptions};

/// The copy; jobs mount it under an overlay and never write to it.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
}

/// A checkout that could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file could not be read or written.
    #[error("copy {path} of the checkout")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Git could not tell which files belong to the checkout.
    #[error("list the files of {path}")]
    Git {
        /// The checkout.
        path: PathBuf,
        /// Why.
        source: git2::Error,
    },
}

impl Snapshot {
    /// Copies the checkout at `root` to `to`: what git tracks, as it is now, and what it neither tracks nor ignores.
    /// Outside of git, everything.
    pub fn take(root: &Path, to: &Path) -> Result<Self, SnapshotError> {
        let files = match Repository::open(root) {
            Ok(repository) => {
                let failed = |source| SnapshotError::Git { path: root.to_owned(), source };
                let mut files = checkout_files(&repository).map_err(failed)?;
                files.push(PathBuf::from(".git"));
                files
            }
            Err(_) => vec![PathBuf::new()],
        };
        fs::create_dir_all(to).map_err(|source| SnapshotError::Io { path: to.to_owned(), source })?;
        for file in files {
            copy(&root.join(&file), &to.join(&file))
                .map_err(|source| SnapshotError::Io { path: file.clone(), source })?;
        }
        Ok(Self { path: to.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Tracked files that are there, and untracked ones that are not ignored.
fn checkout_files(repository: &Repository) -> Result<Vec<PathBuf>, git2::Error> {
    let path = |bytes: &[u8]| PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes));
    let mut files: Vec<PathBuf> = repository.index()?.iter().map(|entry| path(&entry.path)).collect();
    let mut options = StatusOptions::new();
    options.include_untracked(true).recurse_untracked_dirs(true).include_ignored(false).update_index(false);
    let statuses = repository.statuses(Some(&mut options))?;
    let untracked = statuses.iter().filter(|entry| entry.status().contains(Status::WT_NEW));
    files.extend(untracked.map(|entry| path(entry.path_bytes())));
    Ok(files)
}

/// Copies a file, link or tree; what has gone meanwhile, or was deleted without a commit, is passed over.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(from) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if kind.is_symlink() {
        return std::os::unix::fs::symlink(fs::read_link(from)?, to);
    }
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
    } else if kind.is_file() {
        fs::copy(from, to)?;
    }
    Ok(())
}
