//! Files of a job's workspace that outlive the job.
//!
//! Both sides are distrusted: the job may still be writing its workspace, and what an earlier job left in the
//! destination may be links. Each name is opened relative to its directory and never followed, on either side.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use engine::types::ErrorKind;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::inside::Inside;

/// The most files that one job keeps.
const FILES_MAX: usize = 100_000;
/// The most bytes that one job keeps: 16 GiB.
const BYTES_MAX: u64 = 16 << 30;
/// How deep directories are followed.
const DEPTH_MAX: usize = 128;
/// What in a pattern is not a name (globset's syntax).
const WILDCARDS: [char; 6] = ['*', '?', '[', ']', '{', '\\'];
/// Where a checkout has what runs leave for its user.
const OWN_DIRECTORY: &str = ".lighter";
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

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

/// Artifacts that could not be kept. What was copied before remains.
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
    #[error("failed to {action} artifact {path}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file, from the workspace.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory for artifacts, or what belongs to it, could not be made, or is a link.
    #[error("failed to make {path} for artifacts")]
    Destination {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are more files than one job may keep.
    #[error("more than {FILES_MAX} artifacts: name fewer, or make an archive of them")]
    TooMany,
    /// There are more bytes than one job may keep.
    #[error("artifacts of more than {} GiB at {path}", BYTES_MAX >> 30)]
    TooLarge {
        /// The file that was too much, from the workspace.
        path: PathBuf,
    },
    /// Directories are nested deeper than they are followed.
    #[error("artifacts in more than {DEPTH_MAX} nested directories below {path}")]
    TooDeep {
        /// The directory, from the workspace.
        path: PathBuf,
    },
}

impl ArtifactError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Pattern { .. } | Self::TooMany | Self::TooLarge { .. } | Self::TooDeep { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Io { .. } | Self::Destination { .. } => ErrorKind::Internal,
        }
    }
}

/// Patterns of files from the workspace, of which the last that matches decides: one after `!` leaves out. A directory
/// stands for all below it.
#[derive(Debug)]
pub struct Patterns {
    texts: Vec<String>,
    /// Two for each text: the path itself and all below it.
    set: GlobSet,
    /// Where to look: no pattern that takes files in matches outside of these.
    bases: Vec<PathBuf>,
}

impl Patterns {
    /// Compiles patterns: `*` and `?` stay within a directory, `**` does not.
    pub fn new(patterns: &[String]) -> Result<Self, ArtifactError> {
        let mut set = GlobSetBuilder::new();
        let mut bases = Vec::new();
        for pattern in patterns {
            let own = pattern.strip_prefix('!').unwrap_or(pattern);
            let own = own.trim_start_matches("./").trim_end_matches('/');
            // The workspace itself is all of it.
            let own = if own.is_empty() || own == "." { "**" } else { own };
            for text in [own.to_owned(), format!("{own}/**")] {
                let glob = GlobBuilder::new(&text).literal_separator(true).build();
                set.add(glob.map_err(|source| ArtifactError::Pattern { pattern: pattern.clone(), source })?);
            }
            if !pattern.starts_with('!') {
                bases.push(base(own));
            }
        }
        bases.sort();
        bases.dedup_by(|base, before| base.starts_with(before));
        let failed = |source| ArtifactError::Pattern { pattern: patterns.join(", "), source };
        Ok(Self { texts: patterns.to_vec(), set: set.build().map_err(failed)?, bases })
    }

    /// The numbers of the patterns that take a path in, if it is wanted.
    fn matches(&self, path: &Path) -> Vec<usize> {
        let mut matching: Vec<usize> = self.set.matches(path).into_iter().map(|n| n / 2).collect();
        matching.sort_unstable();
        if matching.last().is_some_and(|&last| self.is_exclusion(last)) {
            return Vec::new();
        }
        matching.retain(|&n| !self.is_exclusion(n));
        matching
    }

    fn is_exclusion(&self, number: usize) -> bool {
        self.texts[number].starts_with('!')
    }
}

/// The directories, or the file, that a pattern names before its first wildcard.
fn base(pattern: &str) -> PathBuf {
    pattern.split('/').take_while(|part| !part.contains(WILDCARDS)).collect()
}

/// Copies what matches from a directory of a container to `to`, which is made when there is something to copy. Files
/// that stand there already are replaced, others stay.
///
/// Links are copied as links and never followed; special files are passed over. A file that goes while this runs is
/// left out.
pub fn keep(
    inside: &Inside,
    workspace: &Path,
    patterns: &Patterns,
    to: &Path,
) -> Result<Kept, ArtifactError> {
    let at = |source| ArtifactError::Io { action: "open", path: workspace.to_owned(), source };
    let root = inside.open_dir(workspace).map_err(at)?;
    let mut copy = Copy {
        patterns,
        to: Destination { path: to, root: None, recent: None },
        matched: vec![false; patterns.texts.len()],
        kept: Kept::default(),
    };
    for base in &patterns.bases {
        copy.base(&root, base)?;
    }
    let Copy { matched, mut kept, .. } = copy;
    kept.files.sort();
    let unmatched = patterns.texts.iter().zip(matched).enumerate();
    let unmatched = unmatched.filter(|(n, (_, matched))| !matched && !patterns.is_exclusion(*n));
    kept.unmatched = unmatched.map(|(_, (text, _))| text.clone()).collect();
    Ok(kept)
}

/// Makes `.lighter/artifacts` in a checkout, and tells git to leave `.lighter` alone; where it is.
///
/// A link in the place of either is an error: whoever wrote the checkout would choose where this process, which is
/// root, writes.
pub fn own_directory(checkout: &Path) -> Result<PathBuf, ArtifactError> {
    let own = checkout.join(OWN_DIRECTORY);
    let dir = open_destination(&own).at(&own)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let ignore = own.join(".gitignore");
    let file = rustix::fs::openat(&dir, ".gitignore", flags, Mode::from_raw_mode(0o644)).at(&ignore)?;
    File::from(file).write_all(b"*\n").at(&ignore)?;
    let artifacts = own.join("artifacts");
    open_destination(&artifacts).at(&artifacts)?;
    Ok(artifacts)
}

/// Opens an artifact that was kept. A link is an error: what it leads to is none of the job's.
pub fn open(to: &Path, artifact: &Path) -> io::Result<File> {
    let dir = rustix::fs::open(to, DIRECTORY, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let opened =
        rustix::io::retry_on_intr(|| rustix::fs::openat2(&dir, artifact, flags, Mode::empty(), resolve));
    Ok(File::from(opened?))
}

struct Copy<'a> {
    patterns: &'a Patterns,
    to: Destination<'a>,
    matched: Vec<bool>,
    kept: Kept,
}

impl Copy<'_> {
    /// Copies what matches of one file or tree of the workspace.
    fn base(&mut self, root: &OwnedFd, base: &Path) -> Result<(), ArtifactError> {
        let Some(name) = base.file_name() else { return self.directory(root, base, 0) };
        let mut dir = root.try_clone().map_err(|e| failed("open", base)(e))?;
        for part in base.parent().into_iter().flat_map(Path::components) {
            dir = match rustix::fs::openat(&dir, part.as_os_str(), DIRECTORY, Mode::empty()) {
                Ok(dir) => dir,
                // Not there, or a link, whose target belongs elsewhere.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
                Err(e) => return Err(failed("open", base)(e.into())),
            };
        }
        let name = std::ffi::CString::new(name.as_bytes()).map_err(|e| failed("open", base)(e.into()))?;
        self.entry(&dir, &name, base, 0)
    }

    fn directory(&mut self, dir: &OwnedFd, path: &Path, depth: usize) -> Result<(), ArtifactError> {
        if depth > DEPTH_MAX {
            return Err(ArtifactError::TooDeep { path: path.to_owned() });
        }
        let list = |e: Errno| failed("list", path)(e.into());
        for entry in Dir::read_from(dir).map_err(list)? {
            let entry = entry.map_err(list)?;
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                self.entry(dir, name, &path.join(OsStr::from_bytes(name.to_bytes())), depth)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: &OwnedFd, name: &CStr, path: &Path, depth: usize) -> Result<(), ArtifactError> {
        let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(failed("inspect", path)(e.into())),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match rustix::fs::openat(dir, name, DIRECTORY, Mode::empty()) {
                Ok(below) => self.directory(&below, path, depth + 1),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(e) => Err(failed("open", path)(e.into())),
            },
            kind @ (FileType::RegularFile | FileType::Symlink) => {
                let matching = self.patterns.matches(path);
                if matching.is_empty() {
                    return Ok(());
                }
                if self.kept.files.len() == FILES_MAX {
                    return Err(ArtifactError::TooMany);
                }
                let copied = match kind {
                    FileType::Symlink => self.link(dir, name, path)?,
                    _ => self.file(dir, name, path)?,
                };
                if copied {
                    matching.into_iter().for_each(|n| self.matched[n] = true);
                    self.kept.files.push(path.to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// False if the file is gone, or another kind of file by now.
    fn file(&mut self, dir: &OwnedFd, name: &CStr, path: &Path) -> Result<bool, ArtifactError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(false),
            Err(e) => return Err(failed("open", path)(e.into())),
        };
        let stat = rustix::fs::fstat(&file).map_err(|e| failed("inspect", path)(e.into()))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(false);
        }
        let left = BYTES_MAX - self.kept.bytes;
        if u64::try_from(stat.st_size).unwrap_or(0) > left {
            return Err(ArtifactError::TooLarge { path: path.to_owned() });
        }
        let (parent, name) = self.to.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
        let created = replace(parent, name, || rustix::fs::openat(parent, name, flags, mode));
        let mut copy = File::from(created.map_err(failed("create", path))?);
        // It may grow while it is read.
        let bytes =
            io::copy(&mut File::from(file).take(left + 1), &mut copy).map_err(failed("copy", path))?;
        if bytes > left {
            return Err(ArtifactError::TooLarge { path: path.to_owned() });
        }
        // The mode above is subject to the umask.
        rustix::fs::fchmod(&copy, mode).map_err(|e| failed("set the mode of", path)(e.into()))?;
        self.kept.bytes += bytes;
        Ok(true)
    }

    fn link(&mut self, dir: &OwnedFd, name: &CStr, path: &Path) -> Result<bool, ArtifactError> {
        let target = match rustix::fs::readlinkat(dir, name, Vec::new()) {
            Ok(target) => target,
            Err(Errno::NOENT | Errno::INVAL) => return Ok(false),
            Err(e) => return Err(failed("read the link", path)(e.into())),
        };
        let (parent, name) = self.to.parent(path)?;
        let created = replace(parent, name, || rustix::fs::symlinkat(target.as_c_str(), parent, name));
        created.map_err(failed("create", path))?;
        Ok(true)
    }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { action, path: path.clone(), source }
}

/// Where artifacts go.
struct Destination<'a> {
    path: &'a Path,
    /// Opened with the first artifact.
    root: Option<OwnedFd>,
    /// The directory of the last one.
    recent: Option<(PathBuf, OwnedFd)>,
}

impl Destination<'_> {
    /// The directory that an artifact belongs in, made if absent, and its name there.
    fn parent<'p>(&mut self, path: &'p Path) -> Result<(BorrowedFd<'_>, &'p OsStr), ArtifactError> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or(path.as_os_str());
        if self.recent.as_ref().is_none_or(|(recent, _)| recent != dir) {
            let fd = self.directory(dir)?;
            self.recent = Some((dir.to_owned(), fd));
        }
        let (_, fd) = self.recent.as_ref().expect("it was set above");
        Ok((fd.as_fd(), name))
    }

    fn directory(&mut self, dir: &Path) -> Result<OwnedFd, ArtifactError> {
        let path = self.path;
        if self.root.is_none() {
            self.root = Some(open_destination(path).at(path)?);
        }
        let root = self.root.as_ref().expect("it was set above");
        let mut fd = root.try_clone().at(path)?;
        for part in dir.components() {
            let name = part.as_os_str();
            fd = match rustix::fs::openat(&fd, name, DIRECTORY, Mode::empty()) {
                Ok(below) => below,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    let made = replace(fd.as_fd(), name, || rustix::fs::mkdirat(&fd, name, DIRECTORY_MODE));
                    made.map_err(failed("create", dir))?;
                    rustix::fs::openat(&fd, name, DIRECTORY, Mode::empty())
                        .map_err(|e| failed("open", dir)(e.into()))?
                }
                Err(e) => return Err(failed("open", dir)(e.into())),
            };
        }
        Ok(fd)
    }
}

/// Names the directory for artifacts, or a file that belongs to it.
trait At<T> {
    fn at(self, path: &Path) -> Result<T, ArtifactError>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, ArtifactError> {
        self.map_err(|e| ArtifactError::Destination { path: path.to_owned(), source: e.into() })
    }
}

/// Opens a directory, made if absent, which must be one itself: a checkout may come with a link in its place.
fn open_destination(path: &Path) -> io::Result<OwnedFd> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match rustix::fs::mkdir(path, DIRECTORY_MODE) {
        Ok(()) | Err(Errno::EXIST) => Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?),
        Err(e) => Err(e.into()),
    }
}

/// Creates something in the place of what an earlier run left there.
fn replace<T>(dir: BorrowedFd<'_>, name: &OsStr, create: impl Fn() -> Result<T, Errno>) -> io::Result<T> {
    match create() {
        Err(Errno::EXIST) => {}
        other => return Ok(other?),
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        // Whole trees are not removed: their names may be the user's own.
        Err(e) => return Err(e.into()),
    }
    Ok(create()?)
}

#[cfg(test)]
mod tests;
