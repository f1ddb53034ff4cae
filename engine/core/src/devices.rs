//! Devices of the host that containers have.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use engine_runtime::spec::{Device, DeviceAccess};
use rustix::fs::{major, minor};

use crate::container::{ContainerConfig, DeviceMapping};
use crate::error::Error;

const DEV: &str = "/dev";
/// What of the host's /dev a container has its own of, or has no use for (moby, `pkg/devices`).
const OWN: [&str; 9] = ["console", "fd", "mqueue", "ptmx", "pts", "shm", ".lxc", ".lxd-mounts", ".udev"];
/// Permission bits of a file's mode.
const PERMISSIONS: u32 = 0o7777;

/// The devices of a container: those that it asks for, and all of the host's if it may use them all.
pub(crate) fn of(config: &ContainerConfig) -> Result<Vec<Device>, Error> {
    let mut all = Vec::new();
    if config.security.all_devices {
        for entry in entries(Path::new(DEV)) {
            let own = entry.file_name().is_some_and(|name| OWN.iter().any(|own| name == *own));
            if !own {
                gather(&entry, &entry, DeviceAccess::ALL, &mut all);
            }
        }
    }
    for DeviceMapping { host, container, access } in &config.devices {
        let before = all.len();
        // A link is asked for by its name, as /dev/disk/by-id/... is.
        let real = fs::canonicalize(host).map_err(|source| Error::Device { path: host.clone(), source })?;
        gather(&real, container, *access, &mut all);
        if all.len() == before {
            let source = std::io::Error::other("not a device node");
            return Err(Error::Device { path: host.clone(), source });
        }
    }
    Ok(all)
}

/// Takes a device, or all below a directory. What vanishes meanwhile is none.
fn gather(host: &Path, container: &Path, access: DeviceAccess, all: &mut Vec<Device>) {
    let Ok(metadata) = fs::symlink_metadata(host) else { return };
    let kind = metadata.file_type();
    if kind.is_dir() {
        for entry in entries(host) {
            if let Some(name) = entry.file_name() {
                gather(&entry, &container.join(name), access, all);
            }
        }
        return;
    }
    if kind.is_char_device() || kind.is_block_device() {
        let number = metadata.rdev();
        all.push(Device {
            path: container.to_owned(),
            block: kind.is_block_device(),
            major: major(number),
            minor: minor(number),
            mode: metadata.mode() & PERMISSIONS,
            owner: (metadata.uid(), metadata.gid()),
            access,
        });
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
