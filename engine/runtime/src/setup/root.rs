//! The container's root file system as seen from outside: paths are resolved within it, whatever links it has.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::error::{Context, SetupError, Step};

/// A directory that acts as `/` for every path given to it.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Opens what `path` leads to, following links as a process inside would (openat2(2), RESOLVE_IN_ROOT).
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::io::retry_on_intr(|| rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve))?)
    }

    /// Opens a directory, making it and those above it if absent.
    pub(crate) fn make_dir(&self, path: &Path) -> Result<OwnedFd, SetupError> {
        self.make_dir_inner(path).step_at(Step::MakeMountPoint, path)
    }

    fn make_dir_inner(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.resolve(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (parent, name) = split(path)?;
        let parent = self.make_dir_inner(parent)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.resolve(path),
            Err(e) => Err(e.into()),
        }
    }

    /// Opens a file, making an empty one, and the directories above it, if absent.
    pub(crate) fn make_file(&self, path: &Path) -> Result<OwnedFd, SetupError> {
        let make = || {
            match self.resolve(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => return other,
            }
            let (parent, name) = split(path)?;
            let parent = self.make_dir_inner(parent)?;
            let mode = Mode::from_raw_mode(0o644);
            match rustix::fs::mknodat(&parent, name, FileType::RegularFile, mode, 0) {
                Ok(()) | Err(Errno::EXIST) => self.resolve(path),
                Err(e) => Err(e.into()),
            }
        };
        make().step_at(Step::MakeMountPoint, path)
    }

    /// Makes a device node in `dir` with exactly these permission bits.
    pub(crate) fn make_device(
        dir: BorrowedFd<'_>,
        name: &OsStr,
        block: bool,
        mode: u32,
        number: u64,
    ) -> io::Result<()> {
        let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
        match rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(mode), number) {
            Err(Errno::EXIST) => {
                rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
                Ok(rustix::fs::mknodat(dir, name, kind, Mode::from_raw_mode(mode), number)?)
            }
            result => Ok(result?),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let last = path.components().next_back();
    match (path.parent(), last) {
        (Some(parent), Some(Component::Normal(name))) => Ok((parent, name)),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

/// Attaches a detached mount at an open file or directory.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// A detached copy of the mount tree that an open file or directory is in, from there down.
pub(crate) fn clone_tree(at: BorrowedFd<'_>, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(at, "", flags)?)
}

/// Opens a path of the host for [`clone_tree`].
pub(crate) fn open_host(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// The path by which a system call without a descriptor form reaches an open file.
pub(crate) fn magic_path(fd: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Whether an open file is a directory.
pub(crate) fn is_dir(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode).is_dir())
}

/// Overlayfs options for layers (topmost first) under a writable directory. Directories are named by descriptors,
/// because mount(2)'s options end at 4096 bytes, which a few dozen digests fill. The links that would make the upper
/// directory depend on its layers (redirects, metadata-only copies, the index) stay off, since an upper directory may
/// become a layer by itself.
pub(crate) fn overlay_options(lower: &[OwnedFd], upper: &Path, work: &Path, volatile: bool) -> String {
    use std::os::fd::AsRawFd;
    let lower: Vec<String> = lower.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let mut options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
        lower.join(":"),
        escape(upper),
        escape(work)
    );
    if volatile {
        options.push_str(",volatile");
    }
    options
}

/// Overlayfs options for layers (topmost first) alone, which are then read only.
pub(crate) fn lower_options(lower: &[OwnedFd]) -> String {
    use std::os::fd::AsRawFd;
    let lower: Vec<String> = lower.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    format!("lowerdir={},redirect_dir=off,metacopy=off,index=off", lower.join(":"))
}

/// Overlayfs splits its options at commas and its lower directories at colons; a backslash protects both.
fn escape(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "\\\\").replace(',', "\\,").replace(':', "\\:")
}

/// Opens overlay layers.
pub(crate) fn open_layers(layers: &[PathBuf]) -> Result<Vec<OwnedFd>, SetupError> {
    layers.iter().map(|layer| open_host(layer).step_at(Step::OpenLayer, layer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn never_leaves_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("/etc", root.join("abs")).unwrap();
        symlink("../../../../..", root.join("up")).unwrap();
        let opened = Root::open(&root).unwrap();
        opened.make_dir(Path::new("/abs/made")).unwrap();
        opened.make_file(Path::new("/up/file/inside")).unwrap();
        opened.make_dir(Path::new("/../../x/y")).unwrap();
        assert!(root.join("etc/made").is_dir());
        assert!(root.join("file/inside").is_file());
        assert!(root.join("x/y").is_dir());
    }
}
