//! Where `cp` puts things: as Docker documents it, what the target is decides between into, over and as.

use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Local(String),
    Container(String, String),
}

impl Place {
    /// Reads `CONTAINER:PATH`; what begins with a slash or a dot is a path here.
    pub(super) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            Some((name, path)) if !text.starts_with(['/', '.']) => {
                Self::Container(name.to_owned(), path.to_owned())
            }
            _ => Self::Local(text.to_owned()),
        }
    }
}

/// What is where something is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) exists: bool,
    pub(super) directory: bool,
}

impl Found {
    /// Looks on this machine. The directory above must be there.
    pub(super) fn here(path: &Path) -> anyhow::Result<Self> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Self { exists: true, directory: metadata.is_dir() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let parent =
                    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
                ensure!(
                    parent.is_dir(),
                    "invalid output path: directory {:?} does not exist",
                    parent.display().to_string()
                );
                Ok(Self { exists: false, directory: false })
            }
            Err(error) => bail!("{}: {error}", path.display()),
        }
    }
}

/// Where an archive is unpacked, and what its top is called there if not as it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) directory: PathBuf,
    pub(super) rename: Option<String>,
}

/// Decides by what is copied and what is there. `name` is what the archive's top is called, a dot if it has none.
pub(super) fn plan(
    name: &str,
    source_is_directory: bool,
    target: &Path,
    found: Found,
) -> anyhow::Result<Plan> {
    let text = target.to_string_lossy();
    if found.exists && found.directory {
        return Ok(Plan { directory: target.to_owned(), rename: None });
    }
    ensure!(!found.exists || !source_is_directory, "cannot copy directory");
    let asserts_directory = text.ends_with('/') || text.ends_with("/.");
    ensure!(source_is_directory || !asserts_directory, "no such directory");
    let (directory, base) = parent_and_base(&text);
    ensure!(!(base.is_empty() || base == ".." || base == "."), "invalid target: {text}");
    let rename = Some(base).filter(|base| base != name);
    Ok(Plan { directory, rename })
}

/// The last part of a path; a dot if it means the contents of a directory.
pub(super) fn base(path: &str) -> String {
    if path == "." || path.ends_with("/.") {
        return ".".to_owned();
    }
    parent_and_base(path).1
}

/// A path's directory and its last part.
pub(super) fn parent_and_base(path: &str) -> (PathBuf, String) {
    let trimmed = path.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/.").unwrap_or(trimmed).trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some(("", base)) => (PathBuf::from("/"), base.to_owned()),
        Some((directory, base)) => (PathBuf::from(directory), base.to_owned()),
        None if path.starts_with('/') => (PathBuf::from("/"), String::new()),
        None => (PathBuf::from("."), trimmed.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTORY: Found = Found { exists: true, directory: true };
    const FILE: Found = Found { exists: true, directory: false };
    const NOTHING: Found = Found { exists: false, directory: false };

    #[track_caller]
    fn check(
        name: &str,
        is_directory: bool,
        target: &str,
        found: Found,
        wanted: Result<(&str, Option<&str>), &str>,
    ) {
        let planned = plan(name, is_directory, Path::new(target), found);
        let planned =
            planned.map(|p| (p.directory.display().to_string(), p.rename)).map_err(|e| e.to_string());
        let wanted = wanted.map(|(d, r)| (d.to_owned(), r.map(str::to_owned))).map_err(str::to_owned);
        assert_eq!(planned, wanted);
    }

    #[test]
    fn the_target_decides() {
        check("file", false, "/dir", DIRECTORY, Ok(("/dir", None)));
        check("file", false, "/dir/", NOTHING, Err("no such directory"));
        check("file", false, "/dir/new", NOTHING, Ok(("/dir", Some("new"))));
        check("file", false, "/dir/old", FILE, Ok(("/dir", Some("old"))));
        check("file", false, "/dir/file", FILE, Ok(("/dir", None)));
        check("dir", true, "/there", DIRECTORY, Ok(("/there", None)));
        check("dir", true, "/there", FILE, Err("cannot copy directory"));
        check("dir", true, "/new/", NOTHING, Ok(("/", Some("new"))));
        check(".", true, "new", NOTHING, Ok((".", Some("new"))));
    }

    #[test]
    fn containers_are_told_from_paths() {
        let container = |name: &str, path: &str| Place::Container(name.to_owned(), path.to_owned());
        assert_eq!(Place::parse("web:/etc"), container("web", "/etc"));
        assert_eq!(Place::parse("./a:b"), Place::Local("./a:b".to_owned()));
        assert_eq!(Place::parse("/a:b"), Place::Local("/a:b".to_owned()));
        assert_eq!(Place::parse("file"), Place::Local("file".to_owned()));
        assert_eq!(
            (base("/etc/."), base("/etc/"), base("a/b"), base("/")),
            (".".to_owned(), "etc".to_owned(), "b".to_owned(), String::new())
        );
    }
}
