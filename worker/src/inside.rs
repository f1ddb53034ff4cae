//! A container's files, reached from outside as a process in it would reach them: no link of the container's leads
//! out of its root.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How much of a passwd file is read, in bytes: the container may have made it endless.
const PASSWD_MAX: u64 = 1024 * 1024;

/// The root directory of a container.
#[derive(Debug)]
pub struct Inside(OwnedFd);

impl Inside {
    /// Takes the descriptor that the engine gives for a container's root.
    pub fn new(root: OwnedFd) -> Self {
        Self(root)
    }

    /// Opens a directory.
    pub fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens a file for reading.
    pub fn open_file(&self, path: &Path) -> io::Result<File> {
        self.open(path, OFlags::RDONLY | OFlags::NONBLOCK).map(File::from)
    }

    /// Opens a directory, making it and those above it if absent.
    pub fn make_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (Some(parent), Some(Component::Normal(name))) = (path.parent(), path.components().next_back())
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = self.make_dir(parent)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.open_dir(path),
            Err(e) => Err(e.into()),
        }
    }

    /// The home directory of a user (name, id, or with a group), by the container's own passwd.
    pub fn home(&self, user: &str) -> PathBuf {
        let name = user.split(':').next().filter(|name| !name.is_empty()).unwrap_or("0");
        let passwd = self
            .open_file(Path::new("/etc/passwd"))
            .map(|file| file.take(PASSWD_MAX))
            .and_then(io::read_to_string)
            .unwrap_or_default();
        let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let entry = entry.into_iter().find(|f| f.first() == Some(&name) || f.get(2) == Some(&name));
        entry.and_then(|f| f.get(5).map(PathBuf::from)).unwrap_or_else(|| PathBuf::from("/root"))
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        Ok(rustix::io::retry_on_intr(|| {
            rustix::fs::openat2(self.0.as_fd(), path, flags, Mode::empty(), resolve)
        })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/etc")).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        std::fs::write(dir.path().join("root/etc/passwd"), "ann:x:7:7::/home/ann:/bin/sh\n").unwrap();
        std::os::unix::fs::symlink("../../../secret", dir.path().join("root/link")).unwrap();
        let root = File::open(dir.path().join("root")).unwrap().into();
        let inside = Inside::new(root);
        assert_eq!(inside.open_file(Path::new("/link")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(inside.home("ann"), Path::new("/home/ann"));
        assert_eq!(inside.home("7:9"), Path::new("/home/ann"));
        assert_eq!(inside.home(""), Path::new("/root"));
        inside.make_dir(Path::new("/a/b")).unwrap();
        assert!(dir.path().join("root/a/b").is_dir());
    }
}
