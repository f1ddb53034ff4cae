//! A container's files, reached from outside as a process in it would reach them: no link of the container's leads
//! out of its root.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use engine::image::archive::Owner;
use engine::runtime::spec::Process;
use engine::runtime::{SetupError, resolve_user};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

/// How much of a passwd file is read, in bytes: the container may have made it endless.
const PASSWD_MAX: u64 = 1024 * 1024;

/// Whom a job's files belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// User and group.
    pub owner: Owner,
    /// Where `~` leads.
    pub home: PathBuf,
}

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

    /// Opens a directory, making it and those above it if absent; they belong to `owner` then.
    pub fn make_dir(&self, path: &Path, owner: Owner) -> io::Result<OwnedFd> {
        match self.open_dir(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (Some(parent), Some(Component::Normal(name))) = (path.parent(), path.components().next_back())
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = self.make_dir(parent, owner)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
                rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
                self.open_dir(path)
            }
            Err(Errno::EXIST) => self.open_dir(path),
            Err(e) => Err(e.into()),
        }
    }

    /// Whoever a process runs as, by the container's own passwd. `HOME` in its environment comes before that.
    pub fn account(&self, process: &Process) -> Result<Account, SetupError> {
        let read = |path| {
            let file = self.open_file(Path::new(path)).map(|file| file.take(PASSWD_MAX));
            file.and_then(io::read_to_string).unwrap_or_default()
        };
        let user = resolve_user(&read("/etc/passwd"), &read("/etc/group"), &process.user, &[])?;
        let home = process.env.iter().rev().find_map(|entry| entry.strip_prefix("HOME="));
        let home = PathBuf::from(home.unwrap_or(&user.home));
        Ok(Account { owner: Owner { uid: user.uid, gid: user.gid }, home })
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
    use std::os::unix::fs::MetadataExt;

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
        inside.make_dir(Path::new("/a/b"), Owner { uid: 7, gid: 9 }).unwrap();
        let made = dir.path().join("root/a/b").metadata().unwrap();
        assert_eq!((made.is_dir(), made.uid(), made.gid()), (true, 7, 9));
    }

    #[test]
    fn home_is_the_users_unless_the_environment_has_another() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "ann:x:7:8::/home/ann:/bin/sh\n").unwrap();
        let inside = Inside::new(File::open(dir.path()).unwrap().into());
        let check = |user: &str, env: &[&str], owner: (u32, u32), home: &str| {
            let env = env.iter().map(|&entry| entry.to_owned()).collect();
            let process = Process { user: user.to_owned(), env, ..Process::default() };
            let owner = Owner { uid: owner.0, gid: owner.1 };
            assert_eq!(inside.account(&process).unwrap(), Account { owner, home: home.into() });
        };
        check("ann", &["A=1"], (7, 8), "/home/ann");
        check("7:9", &[], (7, 9), "/home/ann");
        check("", &[], (0, 0), "/");
        check("", &["HOME=/root"], (0, 0), "/root");
        check("ann", &["HOME=/a", "HOME=/b"], (7, 8), "/b");
    }
}
