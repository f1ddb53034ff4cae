//! The directory an archive is unpacked into, which the kernel itself keeps every lookup inside of.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW_DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// A lookup is tried again this often when the kernel says that something was renamed meanwhile (openat2(2), EAGAIN).
const RESOLVE_TRIES: u32 = 16;

/// A root directory with the most recently used directory below it, which most entries of an archive share.
pub(super) struct Destination {
    root: OwnedFd,
    resolve: ResolveFlags,
    recent: Option<(PathBuf, OwnedFd)>,
}

/// Why a name in an archive is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NameError {
    #[error("the path is absolute")]
    Absolute,
    #[error("the path contains \"..\"")]
    Parent,
    #[error("the path is longer than {PATH_MAX_BYTES} bytes")]
    TooLong,
    #[error("the path contains a NUL byte")]
    Nul,
}

/// The longest path that is accepted: Linux's PATH_MAX.
const PATH_MAX_BYTES: usize = 4096;

/// Normalises a name from an archive into a path relative to the root; empty for the root itself.
pub(super) fn relative(name: &[u8], rooted: bool) -> Result<PathBuf, NameError> {
    if name.len() > PATH_MAX_BYTES {
        return Err(NameError::TooLong);
    }
    if name.contains(&0) {
        return Err(NameError::Nul);
    }
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::RootDir if rooted => {}
            Component::RootDir | Component::Prefix(_) => return Err(NameError::Absolute),
            Component::ParentDir => return Err(NameError::Parent),
        }
    }
    Ok(path)
}

impl Destination {
    /// With `rooted`, symbolic links mean what they would after a chroot; without, one that leads out is EXDEV.
    pub(super) fn new(root: OwnedFd, rooted: bool) -> Self {
        let containment = if rooted { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
        Self { root, resolve: containment | ResolveFlags::NO_MAGICLINKS, recent: None }
    }

    /// Opens the directory at `path`; its last component may be a symbolic link that stays below the root.
    pub(super) fn open_dir(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open(path, DIRECTORY)
    }

    /// Opens the directory at `path` unless its last component is a symbolic link.
    pub(super) fn open_dir_itself(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open(path, DIRECTORY | OFlags::NOFOLLOW)
    }

    /// The directory at `path`, created if absent and kept open for the next call.
    pub(super) fn parent(&mut self, path: &Path) -> Result<BorrowedFd<'_>, Errno> {
        if path.as_os_str().is_empty() {
            return Ok(self.root.as_fd());
        }
        if self.recent.as_ref().is_none_or(|(recent, _)| recent != path) {
            let fd = match self.open_dir(path) {
                Err(Errno::NOENT) => self.make_dirs(path)?,
                other => other?,
            };
            self.recent = Some((path.to_owned(), fd));
        }
        Ok(self.recent.as_ref().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    /// Removes what stands at `name` in the directory `parent`, a whole tree if it is one.
    pub(super) fn clear(&mut self, parent: &Path, name: &OsStr) -> Result<(), Errno> {
        let dir = self.parent(parent)?.try_clone_to_owned().map_err(|_| Errno::MFILE)?;
        // The kept directory may lie in the tree that goes.
        self.recent = None;
        remove_tree(dir.as_fd(), name)
    }

    fn make_dirs(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let mut done = PathBuf::new();
        let mut fd = self.open_dir(&done)?;
        for part in path.components() {
            done.push(part);
            fd = match self.open_dir(&done) {
                Err(Errno::NOENT) => {
                    rustix::fs::mkdirat(&fd, part.as_os_str(), NEW_DIRECTORY_MODE)?;
                    rustix::fs::openat(&fd, part.as_os_str(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?
                }
                other => other?,
            };
        }
        Ok(fd)
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        for _ in 1..RESOLVE_TRIES {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), self.resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), self.resolve)
    }
}

/// Removes a file or a whole directory tree without following links.
fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let fd = rustix::fs::openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    for entry in Dir::read_from(&fd)? {
        let entry = entry?;
        let child = OsStr::from_bytes(entry.file_name().to_bytes());
        if child == "." || child == ".." {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            remove_tree(fd.as_fd(), child)?;
        } else {
            rustix::fs::unlinkat(&fd, child, AtFlags::empty())?;
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
