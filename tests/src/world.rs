use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::EngineDaemon;

/// Debian's `busybox-static`.
const BUSYBOX: &str = "/bin/busybox";

/// Fails the test unless it runs as root: these suites test what only root can do.
pub fn require_root() {
    assert!(rustix::process::geteuid().is_root(), "this suite needs root: run it with sudo");
}

/// A directory of its own for one test, removed at its end.
#[derive(Debug)]
pub struct World {
    dir: tempfile::TempDir,
    daemon: Mutex<Daemon>,
}

/// Which daemon the `engine` command of a world speaks to.
#[derive(Debug, Default)]
pub(crate) enum Daemon {
    /// None yet.
    #[default]
    None,
    /// The world's own.
    Own(EngineDaemon),
    /// One that a test has started itself, by its address.
    Other(String),
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Makes the directory.
    #[expect(clippy::expect_used, reason = "a test that cannot have its directory fails")]
    pub fn new() -> Self {
        require_root();
        Self {
            dir: tempfile::Builder::new().prefix("lighter-test-").tempdir().expect("a temporary directory"),
            daemon: Mutex::default(),
        }
    }

    /// A path below the directory, made as a directory.
    #[expect(clippy::expect_used, reason = "a test that cannot have its directory fails")]
    pub fn dir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    pub(crate) fn daemon(&self) -> MutexGuard<'_, Daemon> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        *self.daemon() = Daemon::None;
        self.remove_shared();
    }
}

/// Makes a root file system of Debian's static busybox at `dir`.
#[expect(clippy::expect_used, reason = "a test without busybox fails and says so")]
pub fn busybox_layer(dir: &Path) {
    for name in ["bin", "etc", "tmp", "root", "usr"] {
        fs::create_dir_all(dir.join(name)).expect("a directory of the layer");
    }
    fs::copy(BUSYBOX, dir.join("bin/busybox")).expect("busybox: install the busybox-static package");
    let applets = Command::new(BUSYBOX).arg("--list").output().expect("busybox --list");
    for applet in String::from_utf8_lossy(&applets.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", dir.join("bin").join(applet)).expect("an applet's link");
    }
    fs::write(
        dir.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:100:Ann:/home/ann:/bin/sh\n",
    )
    .expect("passwd");
    fs::write(dir.join("etc/group"), "root:x:0:\nusers:x:100:\naudio:x:29:ann\n").expect("group");
}
