use std::path::{Path, PathBuf};

/// Where everything outside this process is: passed in from `main`, so that tests put small trees in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// What must survive a reboot: the catalog, images, volumes, container directories.
    pub root: PathBuf,
    /// What must not: sockets, locks, supervisor state. On a tmpfs where there is one.
    pub run: PathBuf,
    /// The proc file system, usually `/proc`.
    pub proc: PathBuf,
    /// Where the cgroup hierarchies are mounted, usually `/sys/fs/cgroup`.
    pub cgroup: PathBuf,
    /// The host's configuration files (`resolv.conf`, `hosts`), usually `/etc`.
    pub etc: PathBuf,
}

impl Paths {
    /// The host's own proc, cgroup and etc, with the given data root and run directory.
    pub fn host(root: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            run: run.into(),
            proc: "/proc".into(),
            cgroup: "/sys/fs/cgroup".into(),
            etc: "/etc".into(),
        }
    }

    /// The image store's directory below the root.
    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// The host's resolver configuration.
    pub fn resolv_conf(&self) -> PathBuf {
        self.etc.join("resolv.conf")
    }

    /// A file below the proc file system.
    pub fn proc_file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.proc.join(name)
    }
}
