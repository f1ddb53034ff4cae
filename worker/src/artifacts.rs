//! Files of a job's workspace that outlive the job.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::inside::Inside;

/// The most files that one job keeps.
const FILES_MAX: u64 = 100_000;
/// The most bytes that one job keeps: 16 GiB.
const BYTES_MAX: u64 = 16 << 30;
/// How deep directories are followed.
const DEPTH_MAX: usize = 128;

/// What was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Paths from the workspace, in order.
    pub files: Vec<PathBuf>,
    /// Bytes in all.
    pub bytes: u64,
    /// Patterns that nothing matched.
    pub unmatched: Vec<String>,
}

/// Artifacts that could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// A pattern is none.
    #[error("artifact pattern {pattern:?}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: globset::Error,
    },
    /// A file could not be read or written.
    #[error("artifact {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is more than one job may keep.
    #[error("more than {FILES_MAX} files or {BYTES_MAX} bytes of artifacts: name fewer")]
    TooMany,
}

/// Patterns of files from the workspace; a directory stands for all below it.
#[derive(Debug)]
pub struct Patterns {
    texts: Vec<String>,
    /// Two for each text: the path itself and all below it.
    set: GlobSet,
}

impl Patterns {
    /// Compiles patterns: `*` and `?` stay within a directory, `**` does not.
    pub fn new(patterns: &[String]) -> Result<Self, ArtifactError> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let own = pattern.trim_start_matches("./").trim_end_matches('/');
            for text in [own.to_owned(), format!("{own}/**")] {
                let glob = GlobBuilder::new(&text).literal_separator(true).build();
                set.add(glob.map_err(|source| ArtifactError::Pattern { pattern: pattern.clone(), source })?);
            }
        }
        let failed = |source| ArtifactError::Pattern { pattern: patterns.join(", "), source };
        Ok(Self { texts: patterns.to_vec(), set: set.build().map_err(failed)? })
    }

    /// The numbers of the patterns that a path matches.
    fn matches(&self, path: &Path) -> Vec<usize> {
        self.set.matches(path).into_iter().map(|n| n / 2).collect()
    }
}

/// Copies what matches from a directory of a container to `to`, which is made when there is something to copy.
/// Links are copied as links and never followed.
pub fn keep(
    inside: &Inside,
    workspace: &Path,
    patterns: &Patterns,
    to: &Path,
) -> Result<Kept, ArtifactError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| ArtifactError::Io { path, source }
    };
    let root = inside.open_dir(workspace).map_err(at(workspace))?;
    let mut copy = Copy { patterns, to, matched: vec![false; patterns.texts.len()], kept: Kept::default() };
    copy.directory(&root, Path::new(""), 0)?;
    let Copy { matched, mut kept, .. } = copy;
    kept.files.sort();
    let unmatched = patterns.texts.iter().zip(matched).filter(|(_, matched)| !matched);
    kept.unmatched = unmatched.map(|(text, _)| text.clone()).collect();
    Ok(kept)
}

struct Copy<'a> {
    patterns: &'a Patterns,
    to: &'a Path,
    matched: Vec<bool>,
    kept: Kept,
}

impl Copy<'_> {
    fn directory(&mut self, dir: &OwnedFd, path: &Path, depth: usize) -> Result<(), ArtifactError> {
        let failed =
            |source: rustix::io::Errno| ArtifactError::Io { path: path.to_owned(), source: source.into() };
        if depth > DEPTH_MAX {
            return Err(ArtifactError::TooMany);
        }
        for entry in Dir::read_from(dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let child =
                path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name.to_bytes()));
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let below = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
                    self.directory(&below, &child, depth + 1)?;
                }
                FileType::RegularFile | FileType::Symlink => {
                    let matching = self.patterns.matches(&child);
                    if !matching.is_empty() {
                        matching.into_iter().for_each(|n| self.matched[n] = true);
                        self.entry(dir, name, &child)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: &OwnedFd, name: &std::ffi::CStr, path: &Path) -> Result<(), ArtifactError> {
        if self.kept.files.len() as u64 >= FILES_MAX || self.kept.bytes > BYTES_MAX {
            return Err(ArtifactError::TooMany);
        }
        let copied = copy_entry(dir, name, &self.to.join(path));
        self.kept.bytes += copied.map_err(|source| ArtifactError::Io { path: path.to_owned(), source })?;
        self.kept.files.push(path.to_owned());
        Ok(())
    }
}

/// Copies a file or link, replacing what an earlier attempt left; the bytes copied.
fn copy_entry(dir: &OwnedFd, name: &std::ffi::CStr, to: &Path) -> io::Result<u64> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::remove_file(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir.as_fd(), name, flags, Mode::empty()) {
        Ok(file) => {
            let mut from = fs::File::from(file);
            let mode = from.metadata()?.permissions().mode() & 0o777;
            let mut file = fs::File::create(to)?;
            let bytes = io::copy(&mut from, &mut file)?;
            file.set_permissions(PermissionsExt::from_mode(mode))?;
            Ok(bytes)
        }
        // A link.
        Err(rustix::io::Errno::LOOP) => {
            let target = rustix::fs::readlinkat(dir.as_fd(), name, Vec::new())?;
            rustix::fs::symlink(target, to)?;
            Ok(0)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_matches_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("root/workspace");
        fs::create_dir_all(work.join("report/deep")).unwrap();
        fs::write(work.join("report/a.xml"), "aa").unwrap();
        fs::write(work.join("report/deep/b.txt"), "b").unwrap();
        fs::write(work.join("other.txt"), "no").unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), work.join("report/leak")).unwrap();
        std::os::unix::fs::symlink(dir.path(), work.join("report/away")).unwrap();
        let inside = Inside::new(fs::File::open(dir.path().join("root")).unwrap().into());
        let to = dir.path().join("kept");
        let patterns = Patterns::new(&["report".to_owned(), "*.none".to_owned()]).unwrap();
        let kept = keep(&inside, Path::new("/workspace"), &patterns, &to).unwrap();
        let files: Vec<_> = kept.files.iter().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(files, ["report/a.xml", "report/away", "report/deep/b.txt", "report/leak"]);
        assert_eq!((kept.bytes, kept.unmatched), (3, vec!["*.none".to_owned()]));
        assert!(fs::symlink_metadata(to.join("report/leak")).unwrap().is_symlink());
        assert!(!to.join("other.txt").exists());
    }

    #[test]
    fn a_star_stays_within_a_directory() {
        let patterns = Patterns::new(&["*.xml".to_owned(), "a/**/z".to_owned()]).unwrap();
        assert!(!patterns.matches(Path::new("x.xml")).is_empty());
        assert!(patterns.matches(Path::new("d/x.xml")).is_empty());
        assert!(!patterns.matches(Path::new("a/b/c/z")).is_empty());
    }
}
