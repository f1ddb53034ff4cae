//! mount_setattr, the one call of the new mount API that `rustix` lacks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::check;

/// Attributes of a mount (mount_setattr(2), `MOUNT_ATTR_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttributes(u64);

impl MountAttributes {
    /// No writes through this mount.
    pub const READ_ONLY: Self = Self(libc::MOUNT_ATTR_RDONLY);
    /// Set-user-ID bits and file capabilities have no effect.
    pub const NO_SUID: Self = Self(libc::MOUNT_ATTR_NOSUID);
    /// Device nodes cannot be opened.
    pub const NO_DEVICES: Self = Self(libc::MOUNT_ATTR_NODEV);
    /// No program can be executed.
    pub const NO_EXEC: Self = Self(libc::MOUNT_ATTR_NOEXEC);

    /// Adds `other` to the set.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether nothing is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// How mounts and unmounts below a mount reach its copies (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// From the original to the copy only.
    Slave,
    /// Both ways.
    Shared,
}

/// Adds attributes to the mount that `mount` stands at, and sets its propagation; with `recursive` also to all below.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    attributes: MountAttributes,
    propagation: Option<Propagation>,
    recursive: bool,
) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: attributes.0,
        attr_clr: 0,
        propagation: match propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Shared) => libc::MS_SHARED,
        },
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attr` a valid mount_attr of the size passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::addr_of!(attr),
            std::mem::size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}
