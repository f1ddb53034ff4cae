//! The container's mounts, made in its own mount namespace from detached mounts: no path of the host is looked up
//! twice, and none of the image's links leads a mount out of the root.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use engine_sys::mount::{MountAttributes, set_attributes};
use rustix::fs::{AtFlags, Gid, Mode, Uid, makedev};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, UnmountFlags,
};

use super::overlay;
use super::root::{self, Root, magic_path};
use crate::cgroup::Cgroup;
use crate::error::{Context, SetupError, Step};
use crate::spec::{Mount, MountSource, Namespace, Propagation, Rootfs, Security, Spec};

/// The group that owns pseudo-terminals (`tty` in every distribution's group file).
const TTY_GROUP: &str = "5";
/// Character devices of every container: name, major, minor (kernel docs, admin-guide/devices.txt).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links of every container's /dev.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const PLAIN: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Mounts the root file system and everything below it, and makes it the root of the calling process.
///
/// `shm` is what another container has at /dev/shm, where its IPC namespace was joined.
pub(super) fn enter_root(spec: &Spec, cgroup: &Cgroup, shm: Option<OwnedFd>) -> Result<(), SetupError> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).step(Step::PrivateMounts)?;
    let path = spec.state_dir.join("rootfs");
    mount_rootfs(&spec.rootfs, &path)?;
    let root = Root::open(&path).step_at(Step::OpenRootfs, &path)?;
    mount_kernel_file_systems(&root, spec, cgroup)?;
    mount_dev(&root, spec, shm)?;
    for mount in &spec.mounts {
        attach_mount(&root, mount, &spec.process.user)?;
    }
    write_sysctls(&root, spec)?;
    restrict_paths(&root, &spec.security)?;
    if spec.rootfs.read_only {
        set_attributes(root.as_fd(), MountAttributes::READ_ONLY, None, false).step(Step::ReadOnlyRoot)?;
    }
    if !cgroup.limits_devices() && !spec.security.all_devices {
        // Nodes that the image came with would open the host's devices.
        set_attributes(root.as_fd(), MountAttributes::NO_DEVICES, None, false).step(Step::NoDevices)?;
    }
    pivot(&root, &path)
}

/// Two calls with `.` suffice: the old root is then stacked on the new one and detached from there, without a
/// directory to put it in (pivot_root(2), notes).
fn pivot(root: &Root, path: &Path) -> Result<(), SetupError> {
    rustix::process::fchdir(root)
        .and_then(|()| rustix::process::pivot_root(".", "."))
        .and_then(|()| rustix::mount::unmount(".", UnmountFlags::DETACH))
        .and_then(|()| rustix::process::chdir("/"))
        .step_at(Step::PivotRoot, path)
}

/// Makes the directory if it is absent.
pub(super) fn make_mount_point(at: &Path) -> Result<(), SetupError> {
    match fs::create_dir(at) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e).step_at(Step::MakeMountPoint, at),
        _ => Ok(()),
    }
}

pub(super) fn mount_rootfs(rootfs: &Rootfs, at: &Path) -> Result<(), SetupError> {
    make_mount_point(at)?;
    // Overlayfs refuses a work directory that a volatile mount has used before; what it guards against, a crash of
    // the whole machine in between, the owner of the directory has to rule out.
    let _ = fs::remove_dir_all(rootfs.work.join("work/incompat"));
    let layers = root::open_layers(&rootfs.layers)?;
    let options = root::overlay_options(&layers, &rootfs.upper, &rootfs.work, rootfs.volatile);
    let options = std::ffi::CString::new(options).map_err(|e| SetupError::Invalid(e.to_string()))?;
    rustix::mount::mount("overlay", at, "overlay", MountFlags::empty(), options.as_c_str())
        .step_at(Step::MountRootfs, at)
}

fn mount_kernel_file_systems(root: &Root, spec: &Spec, cgroup: &Cgroup) -> Result<(), SetupError> {
    let proc = new_mount("proc", &[], PLAIN).step(Step::MountProc)?;
    attach_at(root, &proc, "/proc", Step::MountProc)?;
    let mut attributes = PLAIN;
    if !spec.security.writable_sys {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let sys = match spec.namespaces.network {
        Namespace::Private | Namespace::Joined => new_mount("sysfs", &[], attributes).step(Step::MountSys)?,
        // sysfs shows the network namespace of whoever mounts it, so the host's own serves here.
        Namespace::Host => {
            let sys = root::open_host(Path::new("/sys")).and_then(|fd| root::clone_tree(fd.as_fd(), false));
            let sys = sys.step(Step::MountSys)?;
            let read_only = if spec.security.writable_sys {
                MountAttributes::default()
            } else {
                MountAttributes::READ_ONLY
            };
            set_attributes(sys.as_fd(), read_only, None, false).step(Step::MountSys)?;
            sys
        }
    };
    attach_at(root, &sys, "/sys", Step::MountSys)?;
    mount_cgroup(root, cgroup, attributes)
}

fn mount_cgroup(root: &Root, cgroup: &Cgroup, attributes: MountAttrFlags) -> Result<(), SetupError> {
    let at = "/sys/fs/cgroup";
    if cgroup.is_v2() {
        let mount = new_mount("cgroup2", &[], attributes).step(Step::MountCgroup)?;
        return attach_at(root, &mount, at, Step::MountCgroup);
    }
    let Some(dirs) = cgroup.v1_dirs() else { return Ok(()) };
    let tmpfs = new_mount("tmpfs", &[("mode", "755")], PLAIN).step(Step::MountCgroup)?;
    attach_at(root, &tmpfs, at, Step::MountCgroup)?;
    let plain = MountAttributes::NO_SUID.with(MountAttributes::NO_DEVICES).with(MountAttributes::NO_EXEC);
    let attributes = if attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        plain.with(MountAttributes::READ_ONLY)
    } else {
        plain
    };
    for (dir, controllers) in dirs {
        let target = Path::new(at).join(controllers.join(","));
        let tree = root::open_host(dir).and_then(|fd| root::clone_tree(fd.as_fd(), false));
        let tree = tree.step_at(Step::MountCgroup, dir)?;
        set_attributes(tree.as_fd(), attributes, None, false).step_at(Step::MountCgroup, dir)?;
        let mount_point = root.make_dir(&target)?;
        root::attach(tree.as_fd(), mount_point.as_fd()).step_at(Step::MountCgroup, &target)?;
    }
    set_attributes(tmpfs.as_fd(), attributes, None, false).step(Step::MountCgroup)
}

fn mount_dev(root: &Root, spec: &Spec, shm: Option<OwnedFd>) -> Result<(), SetupError> {
    let no_suid = MountAttrFlags::MOUNT_ATTR_NOSUID;
    let dev = new_mount("tmpfs", &[("mode", "755"), ("size", "65536k")], no_suid)
        .step_at(Step::MountDev, "/dev")?;
    for (name, major, minor) in DEVICES {
        make_device(&dev, Path::new(name), false, 0o666, (major, minor))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &dev, name).step_at(Step::MakeDevice, Path::new("/dev").join(name))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755)).step_at(Step::MountDev, name)?;
    }
    attach_at(root, &dev, "/dev", Step::MountDev)?;
    for device in &spec.security.devices {
        make_listed_device(root, device)?;
    }
    let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", TTY_GROUP)];
    let no_exec = no_suid | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let pts = new_mount("devpts", &options, no_exec).step_at(Step::MountDev, "/dev/pts")?;
    attach_at(root, &pts, "/dev/pts", Step::MountDev)?;
    if spec.namespaces.ipc == Namespace::Host {
        let host = |path: &str| Mount {
            target: path.into(),
            source: MountSource::Bind {
                source: path.into(),
                recursive: false,
                propagation: Propagation::Private,
            },
            read_only: false,
        };
        return ["/dev/shm", "/dev/mqueue"]
            .iter()
            .filter(|p| Path::new(p).exists())
            .try_for_each(|p| attach_mount(root, &host(p), &spec.process.user));
    }
    let size = spec.shm_size.to_string();
    let shm = match shm {
        Some(shm) => Some(shm),
        None if spec.shm_size == 0 => None,
        None => {
            let options = [("mode", "1777"), ("size", size.as_str())];
            Some(new_mount("tmpfs", &options, PLAIN).step_at(Step::MountDev, "/dev/shm")?)
        }
    };
    if let Some(shm) = shm {
        attach_at(root, &shm, "/dev/shm", Step::MountDev)?;
    }
    let mqueue = new_mount("mqueue", &[], PLAIN).step(Step::MountMqueue)?;
    attach_at(root, &mqueue, "/dev/mqueue", Step::MountMqueue)
}

fn make_listed_device(root: &Root, device: &crate::spec::Device) -> Result<(), SetupError> {
    let invalid = || SetupError::Invalid(format!("invalid device path {}", device.path.display()));
    let parent = root.make_dir(device.path.parent().ok_or_else(invalid)?)?;
    let name = device.path.file_name().ok_or_else(invalid)?;
    make_device(&parent, Path::new(name), device.block, device.mode, (device.major, device.minor))?;
    let (user, group) = device.owner;
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    rustix::fs::chownat(&parent, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .step_at(Step::MakeDevice, &device.path)
}

fn make_device(
    dir: &OwnedFd,
    name: &Path,
    block: bool,
    mode: u32,
    (major, minor): (u32, u32),
) -> Result<(), SetupError> {
    let number = makedev(major, minor);
    Root::make_device(dir.as_fd(), name.as_os_str(), block, mode, number)
        .step_at(Step::MakeDevice, Path::new("/dev").join(name))
}

/// Shows the container's own terminal as /dev/console.
pub(super) fn bind_console(terminal: &OwnedFd) -> Result<(), SetupError> {
    let path = Path::new("/dev/console");
    let bind = || {
        fs::File::create(path)?;
        let node = root::clone_tree(terminal.as_fd(), false)?;
        root::attach(node.as_fd(), root::open_host(path)?.as_fd())
    };
    bind().step_at(Step::Terminal, path)
}

/// `user` is the container's.
pub(super) fn attach_mount(root: &Root, mount: &Mount, user: &str) -> Result<(), SetupError> {
    let target = &mount.target;
    let read_only = if mount.read_only { MountAttributes::READ_ONLY } else { MountAttributes::default() };
    match &mount.source {
        MountSource::Bind { source, recursive, propagation } => {
            let from = root::open_host(source).step_at(Step::BindSource, source)?;
            bind(root, &from, mount, *recursive, *propagation)
        }
        MountSource::Within { base, path } => {
            let base = Root::open(base).step_at(Step::BindSource, base)?;
            let from = base.resolve(path).step_at(Step::BindSource, path)?;
            bind(root, &from, mount, true, Propagation::Private)
        }
        MountSource::FileSystem { kind, device, options } => {
            let mut all = vec![("source", device.as_str())];
            all.extend(options.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let mut attributes = MountAttrFlags::empty();
            attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, mount.read_only);
            let file_system = new_mount(kind, &all, attributes).step_at(Step::BindSource, device)?;
            let mount_point = root.make_dir(target)?;
            root::attach(file_system.as_fd(), mount_point.as_fd()).step_at(Step::BindMount, target)
        }
        MountSource::Tmpfs { size, mode, allowed, settings } => {
            let mode = format!("{mode:o}");
            let size = size.map(|bytes| bytes.to_string());
            let mut options = vec![("source", "tmpfs"), ("mode", mode.as_str())];
            options.extend(size.as_deref().map(|size| ("size", size)));
            options.extend(settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let mut attributes = MountAttrFlags::empty();
            attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, !allowed.set_user_id);
            attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, !allowed.devices);
            attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, !allowed.exec);
            attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, mount.read_only);
            let tmpfs = new_mount("tmpfs", &options, attributes).step_at(Step::MountTmpfs, target)?;
            let mount_point = root.make_dir(target)?;
            root::attach(tmpfs.as_fd(), mount_point.as_fd()).step_at(Step::MountTmpfs, target)
        }
        MountSource::Overlay { lower, upper, work } => {
            let view = overlay::View { lower, upper, work, target };
            overlay::mount(root, &view, user)?;
            if !mount.read_only {
                return Ok(());
            }
            let mounted = root.resolve(target).step_at(Step::MountOverlay, target)?;
            set_attributes(mounted.as_fd(), read_only, None, false).step_at(Step::MountOverlay, target)
        }
    }
}

/// Mounts a copy of the mount tree that an open file or directory is in.
fn bind(
    root: &Root,
    from: &OwnedFd,
    mount: &Mount,
    recursive: bool,
    propagation: Propagation,
) -> Result<(), SetupError> {
    let target = &mount.target;
    let tree = root::clone_tree(from.as_fd(), recursive).step_at(Step::BindSource, target)?;
    let propagation = match propagation {
        Propagation::Private => engine_sys::mount::Propagation::Private,
        Propagation::Slave => engine_sys::mount::Propagation::Slave,
        Propagation::Shared => engine_sys::mount::Propagation::Shared,
    };
    let read_only = if mount.read_only { MountAttributes::READ_ONLY } else { MountAttributes::default() };
    set_attributes(tree.as_fd(), read_only, Some(propagation), recursive).step_at(Step::BindMount, target)?;
    let is_dir = root::is_dir(from.as_fd()).step_at(Step::BindSource, target)?;
    let mount_point = if is_dir { root.make_dir(target)? } else { root.make_file(target)? };
    root::attach(tree.as_fd(), mount_point.as_fd()).step_at(Step::BindMount, target)
}

fn write_sysctls(root: &Root, spec: &Spec) -> Result<(), SetupError> {
    for (name, value) in &spec.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        let write = || fs::write(magic_path(&root.resolve(&path)?), value);
        write().step_at(Step::Sysctl, &path)?;
    }
    Ok(())
}

fn restrict_paths(root: &Root, security: &Security) -> Result<(), SetupError> {
    mask(root, &security.masked_paths)?;
    for path in &security.read_only_paths {
        let target = match root.resolve(path) {
            Err(e) if is_absent(&e) => continue,
            other => other.step_at(Step::ReadOnlyPath, path)?,
        };
        let cover = || {
            let tree = root::clone_tree(target.as_fd(), true)?;
            set_attributes(tree.as_fd(), MountAttributes::READ_ONLY, None, true)?;
            root::attach(tree.as_fd(), target.as_fd())
        };
        cover().step_at(Step::ReadOnlyPath, path)?;
    }
    Ok(())
}

/// Hides files under /dev/null and directories under an empty file system, the same for all. That one is attached to
/// the first and copied from there, because Linux before 6.15 copies no mount that is not attached.
fn mask(root: &Root, paths: &[PathBuf]) -> Result<(), SetupError> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = root.resolve(Path::new("/dev/null")).step(Step::MaskPath)?;
    let options = [("size", "0"), ("nr_inodes", "2")];
    let empty =
        new_mount("tmpfs", &options, PLAIN | MountAttrFlags::MOUNT_ATTR_RDONLY).step(Step::MaskPath)?;
    let mut is_attached = false;
    for path in paths {
        let target = match root.resolve(path) {
            Err(e) if is_absent(&e) => continue,
            other => other.step_at(Step::MaskPath, path)?,
        };
        let cover =
            |from: &OwnedFd| root::attach(root::clone_tree(from.as_fd(), false)?.as_fd(), target.as_fd());
        let result = match root::is_dir(target.as_fd()).step_at(Step::MaskPath, path)? {
            false => cover(&null),
            true if is_attached => cover(&empty),
            true => {
                is_attached = true;
                root::attach(empty.as_fd(), target.as_fd())
            }
        };
        result.step_at(Step::MaskPath, path)?;
    }
    Ok(())
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn attach_at(root: &Root, mount: &OwnedFd, at: &str, step: Step) -> Result<(), SetupError> {
    let mount_point = root.make_dir(Path::new(at))?;
    root::attach(mount.as_fd(), mount_point.as_fd()).step_at(step, at)
}

/// A new, detached mount of a file system without a source. An option with an empty value is a flag.
fn new_mount(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> std::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(context.as_fd(), *name)?;
        } else {
            rustix::mount::fsconfig_set_string(context.as_fd(), *name, OsStr::new(value))?;
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    Ok(rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
