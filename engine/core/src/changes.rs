//! What a container has changed of its image: `diff`, and what `commit` takes.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use engine_types::ContainerId;

use crate::engine::{Engine, blocking};
use crate::error::{At, Error};

/// Files that containers get from the engine, and directories that it mounts on. Where the image has none, empty ones are
/// made to mount on, which are no changes of the container.
const MOUNT_POINTS: [&str; 6] = ["dev", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"];
/// Hides what lower layers have in a directory (the kernel's Documentation/filesystems/overlayfs.rst).
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// How a file differs from the image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It, or something in it, is different.
    Modified,
    /// The image has none.
    Added,
    /// The container has none.
    Deleted,
}

/// A difference between a container and its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// From the root.
    pub path: PathBuf,
    /// How.
    pub kind: ChangeKind,
}

impl Engine {
    /// What differs between a container's root file system and its image, by path. What is mounted does not count.
    pub async fn changes(&self, id: ContainerId) -> Result<Vec<Change>, Error> {
        let container = self.container(&id.to_string()).await?;
        let image = self.images().get(container.config.image)?;
        let (upper, layers) = (self.upper_dir(id), self.images().layer_dirs(&image));
        blocking(move || {
            let comparison = Comparison { without: unchanged(&upper), upper: upper.clone(), layers };
            let mut changes = Vec::new();
            comparison.directory(Path::new(""), &mut changes).at(&upper)?;
            changes.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
            Ok(changes)
        })
        .await
    }

    /// Where a container writes.
    pub(crate) fn upper_dir(&self, id: ContainerId) -> PathBuf {
        self.state_dir(id).join("upper")
    }
}

/// What is in an upper directory only to be mounted on.
pub(crate) fn unchanged(upper: &Path) -> BTreeSet<PathBuf> {
    let is_empty = |path: &Path| {
        fs::symlink_metadata(path).is_ok_and(|meta| match meta.is_dir() {
            true => fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()),
            false => meta.is_file() && meta.len() == 0,
        })
    };
    MOUNT_POINTS.iter().filter(|name| is_empty(&upper.join(name))).map(PathBuf::from).collect()
}

struct Comparison {
    upper: PathBuf,
    /// Topmost first.
    layers: Vec<PathBuf>,
    without: BTreeSet<PathBuf>,
}

impl Comparison {
    /// Adds the changes in a directory, of which links are not followed; whether there are any.
    fn directory(&self, path: &Path, changes: &mut Vec<Change>) -> io::Result<bool> {
        let before = changes.len();
        for entry in fs::read_dir(self.upper.join(path))? {
            let entry = entry?;
            let path = path.join(entry.file_name());
            if self.without.contains(&path) {
                continue;
            }
            let meta = match entry.metadata() {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue, // gone since
                meta => meta?,
            };
            let lower = self.lower(&path);
            let told = |kind| Change { path: Path::new("/").join(&path), kind };
            match lower {
                Some(_) if is_whiteout(&meta) => changes.push(told(ChangeKind::Deleted)),
                None if is_whiteout(&meta) => {}
                Some(lower) if meta.is_dir() && lower.is_dir() => {
                    let inside = self.directory(&path, changes)?;
                    let same = |of: fn(&Metadata) -> u32| of(&meta) == of(&lower);
                    if inside || !(same(Metadata::mode) && same(Metadata::uid) && same(Metadata::gid)) {
                        changes.push(told(ChangeKind::Modified));
                    }
                }
                lower => {
                    if meta.is_dir() {
                        self.directory(&path, changes)?;
                    }
                    changes.push(told(if lower.is_some() {
                        ChangeKind::Modified
                    } else {
                        ChangeKind::Added
                    }));
                }
            }
        }
        Ok(changes.len() > before)
    }

    /// What the image has at a path whose directories are real ones.
    fn lower(&self, path: &Path) -> Option<Metadata> {
        for layer in &self.layers {
            let mut hidden = false;
            for ancestor in path.ancestors().skip(1).filter(|ancestor| !ancestor.as_os_str().is_empty()) {
                match fs::symlink_metadata(layer.join(ancestor)) {
                    Ok(meta) if !meta.is_dir() => return None,
                    Ok(_) => hidden |= is_opaque(&layer.join(ancestor)),
                    Err(_) => {}
                }
            }
            match fs::symlink_metadata(layer.join(path)) {
                Ok(meta) if is_whiteout(&meta) => return None,
                Ok(meta) => return Some(meta),
                Err(_) if hidden => return None,
                Err(_) => {}
            }
        }
        None
    }
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 2];
    rustix::fs::lgetxattr(path, OPAQUE_XATTR, &mut value).is_ok_and(|length| &value[..length] == b"y")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_changed_and_removed_is_told() {
        let dir = std::env::temp_dir().join(format!("lighter-changes-{}", std::process::id()));
        let (upper, layer) = (dir.join("upper"), dir.join("layer"));
        for path in [
            upper.join("etc"),
            upper.join("new/inner"),
            layer.join("etc"),
            upper.join("proc"),
            layer.join("same"),
        ] {
            fs::create_dir_all(path).unwrap();
        }
        fs::create_dir(upper.join("same")).unwrap();
        for path in [upper.join("etc/hosts"), layer.join("file"), layer.join("etc/old")] {
            fs::write(path, "").unwrap();
        }
        fs::write(upper.join("etc/old"), "changed").unwrap();
        fs::write(upper.join("file"), "changed").unwrap();
        let comparison =
            Comparison { without: unchanged(&upper), upper: upper.clone(), layers: vec![layer.clone()] };
        let mut changes = Vec::new();
        comparison.directory(Path::new(""), &mut changes).unwrap();
        fs::remove_dir_all(&dir).unwrap();
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        let told: Vec<_> = changes.iter().map(|c| (c.path.to_str().unwrap(), c.kind)).collect();
        let (added, modified) = (ChangeKind::Added, ChangeKind::Modified);
        let expected = [
            ("/etc", modified),
            ("/etc/old", modified),
            ("/file", modified),
            ("/new", added),
            ("/new/inner", added),
        ];
        assert_eq!(told, expected);
    }
}
