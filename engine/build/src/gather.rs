//! What `COPY` and `ADD` read: files of the context, of another stage or of an image.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::cancel::Cancelled;
use crate::error::Problem;
use crate::files::FileHashes;
use crate::ignore::{Ignore, clean};
use crate::pattern::Pattern;
use crate::rootfs::{Dir, Node};

/// Where files are copied from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) root: Dir,
    /// How errors call it.
    pub(crate) shown: String,
    /// Set for the build context.
    pub(crate) context: Option<Context>,
}

/// The build context, a directory that others may change while it is read.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) path: PathBuf,
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) ignore: Arc<Ignore>,
}

/// One source: a file, or a directory with all below it that is not ignored.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The name it has where it lies.
    pub(crate) name: OsString,
    /// It is the root of the context, the stage or the image.
    pub(crate) is_root: bool,
    /// The source itself, then what is below it; directories before what is in them, sorted by name.
    pub(crate) items: Vec<Item>,
}

#[derive(Debug)]
pub(crate) struct Item {
    /// From the source; empty for itself.
    pub(crate) relative: PathBuf,
    pub(crate) node: Node,
}

impl Tree {
    pub(crate) fn is_dir(&self) -> bool {
        self.items.first().is_some_and(|item| item.node.meta.is_dir())
    }
}

impl Origin {
    /// Whether owners and attributes are kept. Files of the context belong to whoever checked them out, which means
    /// nothing in an image.
    pub(crate) fn keeps_owners(&self) -> bool {
        self.context.is_none()
    }

    /// Finds what a source names; patterns may name several or nothing.
    ///
    /// # Errors
    /// [`Problem::NotFound`] is made by the caller of the `Ok(None)` given for a plain path that does not exist.
    pub(crate) fn gather(&self, source: &str, cancelled: &Cancelled) -> Result<Option<Vec<Tree>>, Problem> {
        let refused = |reason| Problem::Syntax(format!("invalid pattern {source:?}: {reason}"));
        let pattern = Pattern::parse(source, false).map_err(refused)?;
        if let Some(path) = pattern.literal() {
            return Ok(self.tree(&path, cancelled)?.map(|tree| vec![tree]));
        }
        let mut paths = vec![String::new()];
        for part in clean(source).split('/') {
            let pattern = Pattern::parse(part, false).map_err(refused)?;
            paths = self.matching(&paths, &pattern)?;
        }
        let mut trees = Vec::new();
        for path in paths {
            trees.extend(self.tree(&path, cancelled)?);
        }
        Ok(Some(trees))
    }

    /// The entries of these directories that match one part of a pattern.
    fn matching(&self, dirs: &[String], pattern: &Pattern) -> Result<Vec<String>, Problem> {
        let mut found = Vec::new();
        for dir in dirs {
            let Some(Node { dir: Some(entries), .. }) = self.root.resolve(Path::new(dir), true)?.node else {
                continue;
            };
            for name in entries.entries()?.into_keys() {
                // A name that is not UTF-8 cannot be written in a Dockerfile either.
                if let Some(name) = name.to_str().filter(|name| pattern.matches(name)) {
                    found.push(if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") });
                }
            }
        }
        Ok(found)
    }

    fn tree(&self, path: &str, cancelled: &Cancelled) -> Result<Option<Tree>, Problem> {
        let name = Path::new(path).file_name().unwrap_or(OsStr::new("/")).to_owned();
        let resolved = self.root.resolve(Path::new(path), true)?;
        let Some(node) = resolved.node else { return Ok(None) };
        let real = resolved.path.strip_prefix("/").unwrap_or(&resolved.path).to_owned();
        let mut walk =
            Walk { ignore: self.context.as_ref().map(|c| &*c.ignore), cancelled, items: Vec::new() };
        walk.add(node, &real, PathBuf::new())?;
        Ok(if walk.items.is_empty() {
            None
        } else {
            Some(Tree { name, is_root: real == Path::new(""), items: walk.items })
        })
    }

    /// Opens a regular file; one of the context only if no part of its path has become a link.
    pub(crate) fn open(&self, node: &Node) -> Result<File, Problem> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = match &self.context {
            Some(context) => {
                let path = node.path.strip_prefix(&context.path).unwrap_or(&node.path);
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                rustix::fs::openat2(&*context.fd, path, flags, Mode::empty(), resolve)
            }
            None => rustix::fs::openat(CWD, &node.path, flags, Mode::empty()),
        };
        opened.map(File::from).map_err(|e| Problem::Io {
            action: "open",
            path: node.path.clone(),
            source: e.into(),
        })
    }

    fn content_hash(&self, node: &Node, files: &FileHashes) -> Result<[u8; 32], Problem> {
        if let Some(hash) = files.find(&node.meta) {
            return Ok(hash);
        }
        let mut file = self.open(node)?;
        let failed = |source| Problem::Io { action: "read", path: node.path.clone(), source };
        // The file itself is asked: it may have been replaced since the directory was listed.
        let meta = file.metadata().map_err(failed)?;
        files.hash(&mut file, &meta).map_err(failed)
    }

    /// Hashes all that a copy of the trees would take over: names, types, modes, contents, targets of links, and
    /// owners where they are kept; not times.
    pub(crate) fn digest(
        &self,
        trees: &[Tree],
        files: &FileHashes,
        cancelled: &Cancelled,
    ) -> Result<[u8; 32], Problem> {
        use sha2::{Digest, Sha256};
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for tree in trees {
            add(tree.name.as_bytes());
            for Item { relative, node } in &tree.items {
                cancelled.check()?;
                let meta = &node.meta;
                add(relative.as_os_str().as_bytes());
                add(&meta.mode().to_le_bytes());
                if self.keeps_owners() {
                    add(&meta.uid().to_le_bytes());
                    add(&meta.gid().to_le_bytes());
                    for (name, value) in crate::write::portable_xattrs(&node.path)? {
                        add(name.as_bytes());
                        add(&value);
                    }
                }
                if meta.is_file() {
                    add(&self.content_hash(node, files)?);
                } else if meta.is_symlink() {
                    add(node.link()?.as_os_str().as_bytes());
                } else if !meta.is_dir() {
                    add(&meta.rdev().to_le_bytes());
                }
            }
        }
        Ok(hasher.finalize().into())
    }
}

struct Walk<'a> {
    ignore: Option<&'a Ignore>,
    cancelled: &'a Cancelled,
    items: Vec<Item>,
}

impl Walk<'_> {
    /// `path` is from the root of the origin, `relative` from the source.
    fn add(&mut self, node: Node, path: &Path, relative: PathBuf) -> Result<(), Problem> {
        self.cancelled.check()?;
        // A socket is a door to a process, not a file; Docker leaves it out too.
        if node.meta.file_type().is_socket() {
            return Ok(());
        }
        let shown = path.to_string_lossy();
        let ignored = self.ignore.is_some_and(|ignore| !shown.is_empty() && ignore.is_ignored(&shown));
        if ignored
            && !self.ignore.is_some_and(|ignore| node.dir.is_some() && ignore.may_have_exceptions(&shown))
        {
            return Ok(());
        }
        let Some(dir) = node.dir.clone() else {
            self.items.push(Item { relative, node });
            return Ok(());
        };
        let at = self.items.len();
        self.items.push(Item { relative: relative.clone(), node });
        for (name, child) in dir.entries()? {
            self.add(child, &path.join(&name), relative.join(&name))?;
        }
        // An ignored directory is there only for what is not ignored in it.
        if ignored && self.items.len() == at + 1 {
            self.items.pop();
        }
        Ok(())
    }
}
