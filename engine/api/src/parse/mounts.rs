//! `-v`, `--mount` and `--tmpfs`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use engine::runtime::spec::Propagation;
use engine::{Mount as EngineMount, MountKind, MountOptions};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::host_config::{HostConfig, refuse_unsupported};
use crate::error::ApiError;

/// An entry of `HostConfig.Mounts`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Mount {
    #[serde(rename = "Type")]
    kind: String,
    source: String,
    target: String,
    read_only: bool,
    tmpfs_options: BTreeMap<String, Value>,
    bind_options: BindOptions,
    volume_options: VolumeOptions,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BindOptions {
    propagation: String,
    non_recursive: bool,
    create_mountpoint: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeOptions {
    no_copy: bool,
    labels: BTreeMap<String, String>,
    driver_config: DriverConfig,
    subpath: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DriverConfig {
    name: String,
    options: BTreeMap<String, String>,
}

/// How a volume is made, if it is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NewVolume {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) mounts: Vec<EngineMount>,
    pub(super) anonymous: Vec<usize>,
    pub(super) make_sources: Vec<PathBuf>,
    /// By the index of the mount.
    pub(super) new_volumes: BTreeMap<usize, NewVolume>,
}

const UNSUPPORTED: [(&str, &str); 1] = [("ImageOptions", "--mount type=image")];
const UNSUPPORTED_OF_BINDS: [(&str, &str); 2] = [
    ("ReadOnlyNonRecursive", "--mount bind-recursive=writable"),
    ("ReadOnlyForceRecursive", "--mount bind-recursive=readonly"),
];

/// `CONTAINER[:MODE]`: whose mounts a container gets, and whether all of them to be read only.
pub(super) fn volumes_from(given: &[String]) -> Result<Vec<(String, bool)>, ApiError> {
    let parse = |text: &String| {
        let (container, mode) = text.split_once(':').unwrap_or((text, ""));
        match mode {
            _ if container.is_empty() => Err(ApiError::Invalid(format!("invalid volumes-from spec: {text}"))),
            "ro" => Ok((container.to_owned(), true)),
            "" | "rw" | "z" | "Z" => Ok((container.to_owned(), false)),
            _ => Err(ApiError::Invalid(format!("invalid mode: {mode}"))),
        }
    };
    given.iter().map(parse).collect()
}

/// All that is mounted into a container; no two at the same place.
pub(super) fn parse<'a>(
    host: &HostConfig,
    volumes: impl Iterator<Item = &'a String>,
) -> Result<Mounts, ApiError> {
    let mut all = Mounts::default();
    for bind in &host.binds {
        all.add_bind(bind)?;
    }
    for mount in &host.mounts {
        all.add_mount(mount)?;
    }
    for (target, options) in &host.tmpfs {
        let (size, read_only, options) = tmpfs(options)?;
        all.add(target, MountKind::Tmpfs(size), read_only, options)?;
    }
    for target in volumes {
        // `-v /a:/b` comes as a bind; some clients name its target here as well.
        if !all.has(&absolute(target)?) {
            all.add_anonymous(target, false, MountOptions::default())?;
        }
    }
    Ok(all)
}

impl Mounts {
    fn add_bind(&mut self, text: &str) -> Result<(), ApiError> {
        let invalid = || ApiError::Invalid(format!("invalid volume specification: '{text}'"));
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target, options) = match parts.as_slice() {
            [source, target] => (*source, *target, ""),
            [source, target, options] => (*source, *target, *options),
            _ => return Err(invalid()),
        };
        let (mut read_only, mut how) = (false, MountOptions::default());
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                // Labels of SELinux have no effect where there is none, and consistency none on Linux.
                "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" | "default" => {}
                "nocopy" if !source.starts_with('/') => how.no_copy = true,
                other if source.starts_with('/') => {
                    let invalid = || ApiError::Invalid(format!("invalid mode: {options}"));
                    how.propagation = propagation(other).ok_or_else(invalid)?;
                }
                _ => return Err(ApiError::Invalid(format!("invalid mode: {options}"))),
            }
        }
        if source.is_empty() {
            return Err(invalid());
        }
        if source.starts_with('/') {
            let source = absolute(source)?;
            self.make_sources.push(source.clone());
            return self.add(target, MountKind::Bind(source), read_only, how);
        }
        self.add(target, MountKind::Volume(source.to_owned()), read_only, how)
    }

    fn add_mount(&mut self, mount: &Mount) -> Result<(), ApiError> {
        refuse_unsupported(&mount.rest, &UNSUPPORTED)?;
        let (target, read_only) = (mount.target.as_str(), mount.read_only);
        match mount.kind.as_str() {
            "bind" => self.add_bind_mount(mount),
            "volume" => self.add_volume(mount),
            "tmpfs" => {
                let number = |name: &str| mount.tmpfs_options.get(name).and_then(Value::as_u64);
                let size = number("SizeBytes").filter(|&size| size > 0);
                let mode = number("Mode").and_then(|mode| u32::try_from(mode).ok()).filter(|&mode| mode > 0);
                if !mount.source.is_empty() {
                    return Err(config_error("tmpfs", "field Source must not be specified"));
                }
                let mut options =
                    MountOptions { mode: mode.map(|mode| mode & 0o7777), ..MountOptions::default() };
                for option in
                    mount.tmpfs_options.get("Options").and_then(Value::as_array).into_iter().flatten()
                {
                    match option.get(0).and_then(Value::as_str) {
                        Some("exec") => options.allowed.exec = true,
                        Some("noexec") => options.allowed.exec = false,
                        _ => return Err(config_error("tmpfs", &format!("invalid option: {option}"))),
                    }
                }
                self.add(target, MountKind::Tmpfs(size), read_only, options)
            }
            "image" => Err(ApiError::Unsupported("--mount type=image".to_owned())),
            other => Err(ApiError::Invalid(format!("mount type unknown: {other:?}"))),
        }
    }

    fn add_bind_mount(&mut self, mount: &Mount) -> Result<(), ApiError> {
        let BindOptions { propagation: asked, non_recursive, create_mountpoint, rest } = &mount.bind_options;
        refuse_unsupported(rest, &UNSUPPORTED_OF_BINDS)?;
        let source = absolute(&mount.source)?;
        if *create_mountpoint {
            self.make_sources.push(source.clone());
        } else if !source.exists() {
            return Err(config_error("bind", &format!("bind source path does not exist: {}", mount.source)));
        }
        let unknown = || config_error("bind", &format!("invalid propagation mode: {asked}"));
        let propagation = if asked.is_empty() { Some(Propagation::Private) } else { propagation(asked) };
        let options = MountOptions {
            propagation: propagation.ok_or_else(unknown)?,
            non_recursive: *non_recursive,
            ..MountOptions::default()
        };
        self.add(&mount.target, MountKind::Bind(source), mount.read_only, options)
    }

    fn add_volume(&mut self, mount: &Mount) -> Result<(), ApiError> {
        let VolumeOptions { no_copy, labels, driver_config, subpath } = &mount.volume_options;
        if !matches!(driver_config.name.as_str(), "" | "local") {
            return Err(ApiError::NotFound(format!(
                "error looking up volume plugin {0}: plugin \"{0}\" not found",
                driver_config.name
            )));
        }
        let subpath = Some(subpath).filter(|path| !path.is_empty()).map(PathBuf::from);
        if subpath.as_deref().is_some_and(|path| !is_local(path)) {
            let text = "subpath must be a relative path within the volume";
            return Err(config_error("volume", text));
        }
        if subpath.is_some() && mount.source.is_empty() {
            return Err(config_error("volume", "must not set Subpath when using anonymous volumes"));
        }
        let options = MountOptions { no_copy: *no_copy, subpath, ..MountOptions::default() };
        if mount.source.is_empty() {
            self.add_anonymous(&mount.target, mount.read_only, options)?;
        } else {
            self.add(&mount.target, MountKind::Volume(mount.source.clone()), mount.read_only, options)?;
        }
        let new = NewVolume { labels: labels.clone(), options: driver_config.options.clone() };
        if new != NewVolume::default() {
            self.new_volumes.insert(self.mounts.len() - 1, new);
        }
        Ok(())
    }

    fn add_anonymous(
        &mut self,
        target: &str,
        read_only: bool,
        options: MountOptions,
    ) -> Result<(), ApiError> {
        self.add(target, MountKind::Volume(String::new()), read_only, options)?;
        self.anonymous.push(self.mounts.len() - 1);
        Ok(())
    }

    fn add(
        &mut self,
        target: &str,
        kind: MountKind,
        read_only: bool,
        options: MountOptions,
    ) -> Result<(), ApiError> {
        let target = absolute(target)?;
        if target == Path::new("/") {
            return Err(ApiError::Invalid("invalid specification: destination can't be '/'".to_owned()));
        }
        if self.has(&target) {
            return Err(ApiError::Invalid(format!("Duplicate mount point: {}", target.display())));
        }
        self.mounts.push(EngineMount { target, kind, read_only, options });
        Ok(())
    }

    fn has(&self, target: &Path) -> bool {
        self.mounts.iter().any(|mount| mount.target == target)
    }
}

fn config_error(kind: &str, text: &str) -> ApiError {
    ApiError::Invalid(format!("invalid mount config for type {kind:?}: {text}"))
}

fn propagation(name: &str) -> Option<Propagation> {
    match name {
        "private" | "rprivate" => Some(Propagation::Private),
        "slave" | "rslave" => Some(Propagation::Slave),
        "shared" | "rshared" => Some(Propagation::Shared),
        _ => None,
    }
}

/// Whether a path stays below where it starts, by its text.
fn is_local(path: &Path) -> bool {
    path.components().all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
}

/// A path without `.`, `..` and doubled slashes, as Go's `path.Clean`.
pub(crate) fn absolute(text: &str) -> Result<PathBuf, ApiError> {
    if !text.starts_with('/') {
        return Err(ApiError::Invalid(format!("invalid mount path: '{text}' mount path must be absolute")));
    }
    let mut clean = PathBuf::from("/");
    for component in Path::new(text).components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// What is not allowed by an option is not, as with Docker.
fn tmpfs(text: &str) -> Result<(Option<u64>, bool, MountOptions), ApiError> {
    let (mut size, mut read_only, mut options) = (None, false, MountOptions::default());
    for option in text.split(',').filter(|option| !option.is_empty()) {
        let invalid = || ApiError::Invalid(format!("invalid tmpfs option {option:?}"));
        let allowed = &mut options.allowed;
        match option.split_once('=').unwrap_or((option, "")) {
            ("ro", "") => read_only = true,
            ("rw", "") => read_only = false,
            ("exec", "") => allowed.exec = true,
            ("noexec", "") => allowed.exec = false,
            ("suid", "") => allowed.set_user_id = true,
            ("nosuid", "") => allowed.set_user_id = false,
            ("dev", "") => allowed.devices = true,
            ("nodev", "") => allowed.devices = false,
            ("defaults" | "async" | "relatime" | "private" | "rprivate", "") => {}
            ("size", text) => size = Some(bytes(text).ok_or_else(invalid)?),
            ("mode", text) => {
                let mode = u32::from_str_radix(text, 8).map_err(|_| invalid())?;
                options.mode = Some(mode & 0o7777);
            }
            (name @ ("uid" | "gid" | "nr_inodes" | "nr_blocks"), text) => {
                bytes(text).ok_or_else(invalid)?;
                options.settings.insert(name.to_owned(), text.to_owned());
            }
            _ => return Err(invalid()),
        }
    }
    Ok((size, read_only, options))
}

/// A number of bytes with `k`, `m` or `g` behind it.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1 << 10),
        (at, 'm' | 'M') => (&text[..at], 1 << 20),
        (at, 'g' | 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}
