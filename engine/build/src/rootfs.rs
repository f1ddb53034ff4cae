//! What a stack of layers looks like from inside, without mounting it.
//!
//! Rules: the kernel's Documentation/filesystems/overlayfs.rst. A character device 0:0 hides what is below it, the
//! attribute `trusted.overlay.opaque=y` what is below a directory. Links are followed as in a container, so that
//! none leads out.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use crate::error::Problem;

/// Symbolic links followed on one path, as in the kernel (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;
/// Hides what lower layers have in a directory.
pub(crate) const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// A directory of a stack of layers: the directories it is merged from, topmost first.
#[derive(Debug, Clone)]
pub(crate) struct Dir {
    parts: Vec<PathBuf>,
    /// Whiteouts and opaque directories have their meaning.
    overlay: bool,
}

/// A file, directory or link of a stack of layers.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Where it really lies.
    pub(crate) path: PathBuf,
    pub(crate) meta: Metadata,
    /// Set if it is a directory.
    pub(crate) dir: Option<Dir>,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// Without links and dots, from the root.
    pub(crate) path: PathBuf,
    /// What is there.
    pub(crate) node: Option<Node>,
}

impl Dir {
    /// The root of a stack of layers, topmost first.
    pub(crate) fn layers(layers: Vec<PathBuf>) -> Self {
        Self { parts: layers, overlay: true }
    }

    /// The root of a plain directory.
    pub(crate) fn plain(path: PathBuf) -> Self {
        Self { parts: vec![path], overlay: false }
    }

    /// What has this name, links not followed.
    pub(crate) fn child(&self, name: &OsStr) -> Result<Option<Node>, Problem> {
        let mut found: Option<Node> = None;
        for part in &self.parts {
            let path = part.join(name);
            let meta = match fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(Problem::Io { action: "look at", path, source }),
            };
            if self.overlay && is_whiteout(&meta) {
                break;
            }
            let is_dir = meta.is_dir();
            match &mut found {
                None if !is_dir => return Ok(Some(Node { path, meta, dir: None })),
                Some(_) if !is_dir => break,
                None => {
                    let dir = Self { parts: vec![path.clone()], overlay: self.overlay };
                    found = Some(Node { path: path.clone(), meta, dir: Some(dir) });
                }
                Some(node) => {
                    if let Some(dir) = &mut node.dir {
                        dir.parts.push(path.clone());
                    }
                }
            }
            if self.overlay && is_opaque(&path)? {
                break;
            }
        }
        Ok(found)
    }

    /// All it holds, sorted by name.
    pub(crate) fn entries(&self) -> Result<BTreeMap<OsString, Node>, Problem> {
        let mut names: BTreeMap<OsString, Node> = BTreeMap::new();
        for part in &self.parts {
            let failed = |source| Problem::Io { action: "list", path: part.clone(), source };
            for entry in fs::read_dir(part).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                if !names.contains_key(&name)
                    && let Some(node) = self.child(&name)?
                {
                    names.insert(name, node);
                }
            }
        }
        Ok(names)
    }

    /// Follows a path from here as from the root of a container. What does not exist is taken by its name.
    ///
    /// # Errors
    /// Too many links, or a file where a directory should be.
    pub(crate) fn resolve(&self, path: &Path, follow_last: bool) -> Result<Resolved, Problem> {
        let mut todo: VecDeque<OsString> = VecDeque::new();
        push_front(&mut todo, path);
        let mut stack: Vec<(OsString, Option<Node>)> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == ".." {
                stack.pop();
                continue;
            }
            let here = match stack.last() {
                None => Some(self),
                Some((_, Some(node))) => match &node.dir {
                    Some(dir) => Some(dir),
                    None => {
                        let source = io::Error::from(Errno::NOTDIR);
                        return Err(Problem::Io { action: "look up", path: path.to_owned(), source });
                    }
                },
                Some((_, None)) => None,
            };
            let node = here.map(|dir| dir.child(&name)).transpose()?.flatten();
            match node {
                Some(node) if node.meta.is_symlink() && (follow_last || !todo.is_empty()) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Problem::Loop(path.to_owned()));
                    }
                    let target = node.link()?;
                    if target.is_absolute() {
                        stack.clear();
                    }
                    push_front(&mut todo, &target);
                }
                node => stack.push((name, node)),
            }
        }
        let mut canonical = PathBuf::from("/");
        canonical.extend(stack.iter().map(|(name, _)| name));
        let node = match stack.pop() {
            Some((_, node)) => node,
            None => self.as_node()?,
        };
        Ok(Resolved { path: canonical, node })
    }

    /// The directory itself, as the topmost part has it.
    fn as_node(&self) -> Result<Option<Node>, Problem> {
        let Some(path) = self.parts.first().cloned() else { return Ok(None) };
        let meta = fs::symlink_metadata(&path).map_err(|source| Problem::Io {
            action: "look at",
            path: path.clone(),
            source,
        })?;
        Ok(Some(Node { path, meta, dir: Some(self.clone()) }))
    }

    /// A directory that holds nothing.
    pub(crate) fn empty() -> Self {
        Self { parts: Vec::new(), overlay: true }
    }
}

impl Node {
    /// Where a symbolic link points.
    pub(crate) fn link(&self) -> Result<PathBuf, Problem> {
        fs::read_link(&self.path).map_err(|source| Problem::Io {
            action: "read the link",
            path: self.path.clone(),
            source,
        })
    }
}

fn push_front(todo: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn is_opaque(path: &Path) -> Result<bool, Problem> {
    let mut value = [0; 1];
    match rustix::fs::lgetxattr(path, OPAQUE_XATTR, &mut value) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(e) => {
            Err(Problem::Io { action: "read an attribute of", path: path.to_owned(), source: e.into() })
        }
    }
}
