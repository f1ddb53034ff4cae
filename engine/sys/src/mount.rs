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
    mount_setattr(mount, &attr, if recursive { libc::AT_RECURSIVE } else { 0 })
}

/// Shows the files of a detached mount with the owners that a user namespace maps theirs to: who is `inside` in its
/// maps owns files on disk, who is `outside` owns them here (mount_setattr(2), "ID-mapped mounts").
///
/// # Errors
/// `InvalidInput` where the file system cannot do that or the mount is attached already.
pub fn map_owners(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    mount_setattr(mount, &attr, 0)
}

fn mount_setattr(mount: BorrowedFd<'_>, attr: &libc::mount_attr, flags: libc::c_int) -> io::Result<()> {
    // SAFETY: the path is an empty C string, `attr` a valid mount_attr of the size passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags | libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
            std::mem::size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}
