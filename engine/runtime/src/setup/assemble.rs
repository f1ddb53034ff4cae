//! The files of a container that does not run, as it would see them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use engine_sys::mount::{MountAttributes, set_attributes};
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::mounts::{attach_mount, mount_rootfs};
use super::root::{self, Root};
use crate::error::{Context, SetupError, Step};
use crate::spec::{Mount, Rootfs};

/// Mounts a container's root file system and what is mounted in it, and gives the root directory. Nothing of it is in
/// any mount namespace: it goes with the last descriptor. `at` is a directory to mount on meanwhile, made if absent.
///
/// The caller makes sure that nobody else has the same upper directory mounted.
pub fn assemble(rootfs: &Rootfs, mounts: &[Mount], at: &Path) -> Result<OwnedFd, SetupError> {
    privately(|| {
        mount_rootfs(rootfs, at)?;
        let root = Root::open(at).step_at(Step::OpenRootfs, at)?;
        for mount in mounts {
            attach_mount(&root, mount, "")?;
        }
        if rootfs.read_only {
            set_attributes(root.as_fd(), MountAttributes::READ_ONLY, None, false).step(Step::ReadOnlyRoot)?;
        }
        root::clone_tree(root.as_fd(), true).step_at(Step::OpenRootfs, at)
    })
}

/// Mounts layers on each other to be read, and gives the root directory; as [`assemble`], but whoever writes to them
/// meanwhile is not in the way.
pub fn assemble_to_read(layers: &[std::path::PathBuf], at: &Path) -> Result<OwnedFd, SetupError> {
    if let [only] = layers {
        // Overlayfs wants two.
        let only = Root::open(only).step_at(Step::OpenLayer, only)?;
        return root::clone_tree(only.as_fd(), false).step_at(Step::OpenRootfs, at);
    }
    privately(|| {
        super::mounts::make_mount_point(at)?;
        let layers = root::open_layers(layers)?;
        let options = root::lower_options(&layers);
        let options = std::ffi::CString::new(options).map_err(|e| SetupError::Invalid(e.to_string()))?;
        rustix::mount::mount("overlay", at, "overlay", MountFlags::RDONLY, options.as_c_str())
            .step_at(Step::MountRootfs, at)?;
        let root = Root::open(at).step_at(Step::OpenRootfs, at)?;
        root::clone_tree(root.as_fd(), false).step_at(Step::OpenRootfs, at)
    })
}

/// Does it in a thread of its own, whose mount namespace ends with it.
fn privately(work: impl FnOnce() -> Result<OwnedFd, SetupError> + Send) -> Result<OwnedFd, SetupError> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            engine_sys::process::unshare_mount_namespace().step(Step::PrivateMounts)?;
            let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", flags).step(Step::PrivateMounts)?;
            work()
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
