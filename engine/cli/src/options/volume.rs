use std::path::{Path, PathBuf};

use anyhow::bail;

/// What `-v` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Volume {
    /// A directory of the host or a named volume, as the daemon takes it.
    Bind(String),
    /// A volume without a name, at this place.
    Anonymous(String),
}

/// Reads `[source:]target[:options]`.
pub(super) fn parse(spec: &str) -> anyhow::Result<Volume> {
    if spec.is_empty() {
        bail!("invalid empty volume spec");
    }
    if !spec.contains(':') {
        return Ok(Volume::Anonymous(spec.to_owned()));
    }
    let (source, rest) = spec.split_once(':').unwrap_or((spec, ""));
    if source.starts_with('.') {
        return Ok(Volume::Bind(format!("{}:{rest}", absolute(source)?.display())));
    }
    Ok(Volume::Bind(spec.to_owned()))
}

/// A path of this process's as the daemon must have it, without `.` and `..`.
pub(super) fn absolute(path: &str) -> anyhow::Result<PathBuf> {
    use std::path::Component;
    let mut whole = PathBuf::new();
    for part in std::path::absolute(Path::new(path))?.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    Ok(whole)
}
