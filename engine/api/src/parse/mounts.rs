//! `-v`, `--mount` and `--tmpfs`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use engine::{Mount as EngineMount, MountKind};
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
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) mounts: Vec<EngineMount>,
    pub(super) anonymous: Vec<usize>,
    pub(super) make_sources: Vec<PathBuf>,
}

const UNSUPPORTED: [(&str, &str); 3] = [
    ("BindOptions", "--mount bind-propagation"),
    ("VolumeOptions", "--mount volume-opt"),
    ("ImageOptions", "--mount type=image"),
];

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
        let (size, read_only) = tmpfs(options)?;
        all.add(target, MountKind::Tmpfs(size), read_only)?;
    }
    for target in volumes {
        // `-v /a:/b` comes as a bind; some clients name its target here as well.
        if !all.has(&absolute(target)?) {
            all.add_anonymous(target, false)?;
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
        let mut read_only = false;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = true,
                // Labels of SELinux have no effect where there is none, and volumes start empty.
                "rw" | "z" | "Z" | "nocopy" | "private" | "rprivate" => {}
                _ => return Err(ApiError::Invalid(format!("invalid mode: {options}"))),
            }
        }
        if source.is_empty() {
            return Err(invalid());
        }
        if source.starts_with('/') {
            let source = absolute(source)?;
            self.make_sources.push(source.clone());
            return self.add(target, MountKind::Bind(source), read_only);
        }
        self.add(target, MountKind::Volume(source.to_owned()), read_only)
    }

    fn add_mount(&mut self, mount: &Mount) -> Result<(), ApiError> {
        refuse_unsupported(&mount.rest, &UNSUPPORTED)?;
        let kind = match mount.kind.as_str() {
            "bind" => {
                let source = absolute(&mount.source)?;
                if !source.exists() {
                    return Err(ApiError::Invalid(format!(
                        "invalid mount config for type \"bind\": bind source path does not exist: {}",
                        mount.source
                    )));
                }
                MountKind::Bind(source)
            }
            "volume" if mount.source.is_empty() => return self.add_anonymous(&mount.target, mount.read_only),
            "volume" => MountKind::Volume(mount.source.clone()),
            "tmpfs" => {
                let size = mount.tmpfs_options.get("SizeBytes").and_then(Value::as_u64);
                MountKind::Tmpfs(size.filter(|&size| size > 0))
            }
            other => return Err(ApiError::Invalid(format!("mount type unknown: {other:?}"))),
        };
        self.add(&mount.target, kind, mount.read_only)
    }

    fn add_anonymous(&mut self, target: &str, read_only: bool) -> Result<(), ApiError> {
        self.add(target, MountKind::Volume(String::new()), read_only)?;
        self.anonymous.push(self.mounts.len() - 1);
        Ok(())
    }

    fn add(&mut self, target: &str, kind: MountKind, read_only: bool) -> Result<(), ApiError> {
        let target = absolute(target)?;
        if target == Path::new("/") {
            return Err(ApiError::Invalid("invalid specification: destination can't be '/'".to_owned()));
        }
        if self.has(&target) {
            return Err(ApiError::Invalid(format!("Duplicate mount point: {}", target.display())));
        }
        self.mounts.push(EngineMount { target, kind, read_only });
        Ok(())
    }

    fn has(&self, target: &Path) -> bool {
        self.mounts.iter().any(|mount| mount.target == target)
    }
}

/// A path without `.`, `..` and doubled slashes, as Go's `path.Clean`.
fn absolute(text: &str) -> Result<PathBuf, ApiError> {
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

fn tmpfs(options: &str) -> Result<(Option<u64>, bool), ApiError> {
    let (mut size, mut read_only) = (None, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("ro", "") => read_only = true,
            ("rw" | "exec" | "nosuid" | "nodev", "") | ("mode", "1777" | "01777") => {}
            ("size", text) => {
                let parsed = bytes(text);
                size =
                    Some(parsed.ok_or_else(|| ApiError::Invalid(format!("invalid tmpfs size: {text:?}")))?);
            }
            (name, _) => return Err(ApiError::Unsupported(format!("--tmpfs option {name:?}"))),
        }
    }
    Ok((size, read_only))
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
