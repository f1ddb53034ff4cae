//! Private, writable views of directories, in which everything belongs to the container's user.
//!
//! The directories are root's and shared by many containers, so their files cannot be given away. Instead each
//! container sees them through a mount of its own that shows another owner (an idmapped mount, Linux 5.12; below an
//! overlay 5.19). Where the kernel or the file system has none, the overlay copies every file up and gives it away.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use engine_sys::mount::map_owners;
use engine_sys::process::{Child, Namespaces};
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::root::{self, Root, magic_path};
use super::user;
use crate::error::{Context, SetupError, Step};

/// One more than the largest id: the last number means "none" (chown(2)).
const IDS: u32 = u32::MAX;

/// What is mounted, and where.
pub(super) struct View<'a> {
    pub(super) lower: &'a [PathBuf],
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    pub(super) target: &'a Path,
}

/// Who files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Mounts the view for a user, as the container's own passwd has him.
pub(super) fn mount(root: &Root, view: &View<'_>, user: &str) -> Result<(), SetupError> {
    let user = user::resolve_within(root, user)?;
    let owner = Owner { uid: user.uid, gid: user.gid };
    let mount_point = root.make_dir(view.target)?;
    if owner == (Owner { uid: 0, gid: 0 }) {
        return mount_plain(view, &mount_point);
    }
    let (uid, gid) = owner.ids();
    rustix::fs::chown(view.upper, Some(uid), Some(gid)).step_at(Step::MountOverlay, view.upper)?;
    if mount_mapped(view, &mount_point, owner).is_ok() {
        return Ok(());
    }
    mount_plain(view, &mount_point)?;
    let mounted = root.resolve(view.target).and_then(|dir| open_dir(&dir, Path::new(".")));
    mounted.and_then(|dir| give_away(&dir, owner)).step_at(Step::MountOverlay, view.target)
}

fn mount_plain(view: &View<'_>, mount_point: &OwnedFd) -> Result<(), SetupError> {
    let layers = root::open_layers(view.lower)?;
    let options = root::overlay_options(&layers, view.upper, view.work, true);
    let options = std::ffi::CString::new(options).map_err(|e| SetupError::Invalid(e.to_string()))?;
    let at = magic_path(mount_point);
    rustix::mount::mount("overlay", &at, "overlay", MountFlags::empty(), options.as_c_str())
        .step_at(Step::MountOverlay, view.target)
}

/// Covers the lower directories with mapped mounts of themselves, in this mount namespace alone: before Linux 6.15 an
/// overlay takes no mounts that are not attached. They go with the old root when the container enters its own; the
/// overlay keeps what it needs.
fn mount_mapped(view: &View<'_>, mount_point: &OwnedFd, owner: Owner) -> Result<(), SetupError> {
    let namespace = user_namespace(owner).step_at(Step::MountOverlay, view.target)?;
    let mut covered: Vec<&Path> = Vec::new();
    let mut cover_all = || {
        for dir in view.lower {
            let cover = || {
                let open = root::open_host(dir)?;
                let tree = root::clone_tree(open.as_fd(), false)?;
                map_owners(tree.as_fd(), namespace.as_fd())?;
                root::attach(tree.as_fd(), open.as_fd())
            };
            cover().step_at(Step::MountOverlay, dir)?;
            covered.push(dir);
        }
        mount_plain(view, mount_point)
    };
    let mounted = cover_all();
    if mounted.is_err() {
        for dir in covered {
            rustix::mount::unmount(dir, UnmountFlags::DETACH).step_at(Step::MountOverlay, dir)?;
        }
    }
    mounted
}

/// A user namespace in whose maps root and the owner have changed places, and everyone else is who he is. It has no
/// process.
fn user_namespace(owner: Owner) -> io::Result<OwnedFd> {
    let (held, release) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let child = engine_sys::process::spawn(Namespaces::USER, None, || {
        // Its own copy must not keep the pipe open.
        let closed = engine_sys::process::close_inherited_except(&[held.as_fd()]);
        let _ = closed.and_then(|()| Ok(rustix::io::read(&held, &mut [0; 1])?));
        0
    })?;
    let mapped = map_ids(&child, owner);
    drop(release);
    let _ = rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL); // it may have ended already
    rustix::io::retry_on_intr(|| {
        rustix::process::waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)
    })?;
    mapped
}

fn map_ids(child: &Child, owner: Owner) -> io::Result<OwnedFd> {
    // This process's own number of the child does not hold in the host's /proc, which is the one mounted here.
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", child.pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).map(str::trim);
    let process = Path::new("/proc").join(pid.ok_or(io::ErrorKind::InvalidData)?);
    fs::write(process.join("uid_map"), swapped_with_root(owner.uid))?;
    fs::write(process.join("gid_map"), swapped_with_root(owner.gid))?;
    Ok(fs::File::open(process.join("ns/user"))?.into())
}

/// The lines of an id map (user_namespaces(7)) in which root and another are swapped.
fn swapped_with_root(id: u32) -> String {
    if id == 0 {
        return format!("0 0 {IDS}\n");
    }
    let mut lines = format!("0 {id} 1\n{id} 0 1\n");
    let after = id.saturating_add(1);
    for (first, end) in [(1, id), (after, IDS)] {
        if first < end {
            lines.push_str(&format!("{first} {first} {}\n", end - first));
        }
    }
    lines
}

/// Gives everything below a directory away.
fn give_away(dir: &OwnedFd, owner: Owner) -> io::Result<()> {
    let (uid, gid) = owner.ids();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            give_away(&open_dir(dir, name)?, owner)?;
        }
    }
    Ok(())
}

fn open_dir(dir: &OwnedFd, name: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}

impl Owner {
    fn ids(self) -> (Uid, Gid) {
        (Uid::from_raw(self.uid), Gid::from_raw(self.gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(id: u32, lines: &[&str]) {
        assert_eq!(swapped_with_root(id).lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn a_map_has_everyone_once() {
        check(0, &["0 0 4294967295"]);
        check(1, &["0 1 1", "1 0 1", "2 2 4294967293"]);
        check(1000, &["0 1000 1", "1000 0 1", "1 1 999", "1001 1001 4294966294"]);
        check(4_294_967_294, &["0 4294967294 1", "4294967294 0 1", "1 1 4294967293"]);
    }
}
