//! Writes what `COPY`, `ADD` and `WORKDIR` make into the upper directory of a new layer, so that mounted above the
//! layers below it gives what the same writes inside a container would.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use engine_image::archive::{Owner, UnpackError, UnpackOptions, decompress, unpack};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::cancel::Cancelled;
use crate::error::Problem;
use crate::gather::{Item, Origin, Tree};
use crate::rootfs::{Dir, Node, OPAQUE_XATTR};

const NEW_DIRECTORY_MODE: u32 = 0o755;
const NEW_FILE_MODE: u32 = 0o644;
const XATTR_MAX_BYTES: usize = 65_536;
const TAR_BLOCK_BYTES: usize = 512;

/// Writes into one new layer.
pub(crate) struct Writer<'a> {
    upper: PathBuf,
    /// A directory for temporary files on the same file system.
    work: PathBuf,
    /// The new layer above all others.
    view: Dir,
    taking: Taking,
    cancelled: &'a Cancelled,
    /// The times of directories that nothing was added to since, set last because writing into one changes its own.
    times: HashMap<PathBuf, Timestamps>,
}

/// How copies differ from what is copied.
#[derive(Debug, Clone, Copy, Default)]
struct Taking {
    /// `--chown`; also the owner of directories that have to be created, as in BuildKit.
    owner: Option<Owner>,
    /// `--chmod`.
    mode: Option<u32>,
    /// Directories and other files take each other's places.
    replace: bool,
}

/// A destination as it stands in the instruction, made absolute.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) path: PathBuf,
    /// It ends in a slash, or in a dot: it is a directory, whether it exists or not.
    pub(crate) is_dir: bool,
}

impl Destination {
    /// Takes a path relative to the working directory.
    pub(crate) fn new(path: &str, working_dir: &str) -> Self {
        let is_dir = path.is_empty() || path.ends_with('/') || matches!(last_part(path), "." | "..");
        Self { path: Path::new("/").join(working_dir).join(path), is_dir }
    }
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl<'a> Writer<'a> {
    /// Writes into `upper` above `layers`, topmost first.
    pub(crate) fn new(
        upper: PathBuf,
        work: PathBuf,
        layers: &[PathBuf],
        owner: Option<Owner>,
        mode: Option<u32>,
        cancelled: &'a Cancelled,
    ) -> Self {
        let parts = std::iter::once(upper.clone()).chain(layers.iter().cloned()).collect();
        let taking = Taking { owner, mode, replace: false };
        Self { upper, work, view: Dir::layers(parts), taking, cancelled, times: HashMap::new() }
    }

    /// Creates a directory with those above it; nothing if it exists.
    pub(crate) fn make_dir(&mut self, path: &Path) -> Result<(), Problem> {
        let resolved = self.view.resolve(path, true)?;
        match resolved.node {
            Some(node) if node.dir.is_none() => Err(mismatch("a directory", &resolved.path, &node)),
            Some(_) => Ok(()),
            None => self.ensure_dir(&resolved.path),
        }
    }

    /// Copies a source to its place below or at the destination.
    pub(crate) fn copy(&mut self, origin: &Origin, tree: &Tree, to: &Destination) -> Result<(), Problem> {
        let resolved = self.view.resolve(&to.path, true)?;
        if !tree.is_dir() {
            let Some(item) = tree.items.first() else { return Ok(()) };
            let target = self.file_target(resolved.path, resolved.node.as_ref(), &tree.name, to)?;
            return self.put_file(origin, &item.node, &target, &mut HashMap::new());
        }
        if let Some(node) = resolved.node.as_ref().filter(|node| node.dir.is_none()) {
            return Err(mismatch("a directory", &resolved.path, node));
        }
        // What is in the directory is copied; of itself only the time is, as in BuildKit.
        self.ensure_dir(&resolved.path)?;
        self.merge(origin, tree, &resolved.path)?;
        // The root of a context or a stage is made anew by each build.
        if !tree.is_root {
            self.times.insert(self.in_upper(&resolved.path), times_of(&tree.items[0].node.meta));
        }
        Ok(())
    }

    /// Writes a file that stands in the Dockerfile itself.
    pub(crate) fn write_inline(
        &mut self,
        name: &str,
        content: &str,
        to: &Destination,
    ) -> Result<(), Problem> {
        let resolved = self.view.resolve(&to.path, true)?;
        let target = self.file_target(resolved.path, resolved.node.as_ref(), OsStr::new(name), to)?;
        let path = self.place_for_file(&target)?;
        let failed = |source| Problem::Io { action: "write", path: path.clone(), source };
        fs::write(&path, content).map_err(failed)?;
        let owner = self.taking.owner.unwrap_or_default();
        set_owner_and_mode(&path, owner, self.taking.mode.unwrap_or(NEW_FILE_MODE))
    }

    /// Unpacks an archive into the destination directory; `false` if the file is none. As with tar(1), what is in the
    /// archive keeps its owners and modes and takes the place of whatever is there.
    pub(crate) fn unpack(&mut self, origin: &Origin, node: &Node, to: &Destination) -> Result<bool, Problem> {
        if !is_archive(origin.open(node)?) {
            return Ok(false);
        }
        let unpacked = self.work.join("unpacked");
        let failed = |source| Problem::Io { action: "create", path: unpacked.clone(), source };
        fs::create_dir(&unpacked).map_err(failed)?;
        let options = UnpackOptions { devices: true, rooted: true, ..UnpackOptions::default() };
        let failed = |source: UnpackError| Problem::Unpack { path: node.path.clone(), source };
        unpack(origin.open(node)?, &unpacked, &options).map_err(failed)?;
        self.make_dir(&to.path)?;
        let root = self.view.resolve(&to.path, true)?.path;
        self.ensure_dir(&root)?;
        // What is unpacked is ours, owners and all, as if it came from a stage.
        let origin = Origin { root: Dir::plain(unpacked.clone()), shown: String::new(), context: None };
        let taking = std::mem::replace(&mut self.taking, Taking { replace: true, ..Taking::default() });
        if let Some(trees) = origin.gather("/", self.cancelled)? {
            for tree in &trees {
                self.merge(&origin, tree, &root)?;
            }
        }
        self.taking = taking;
        fs::remove_dir_all(&unpacked).map_err(|source| Problem::Io {
            action: "remove",
            path: unpacked,
            source,
        })?;
        Ok(true)
    }

    /// Ends the writing.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        self.times.into_iter().try_for_each(|(path, times)| set_times(&path, times))
    }

    /// Where a single file goes: never in the place of a directory.
    fn file_target(
        &self,
        resolved: PathBuf,
        node: Option<&Node>,
        name: &OsStr,
        to: &Destination,
    ) -> Result<PathBuf, Problem> {
        let target = match node {
            Some(node) if to.is_dir && node.dir.is_none() => {
                return Err(mismatch("a directory", &resolved, node));
            }
            Some(node) if node.dir.is_none() => return Ok(resolved),
            None if !to.is_dir => return Ok(resolved),
            _ => resolved.join(name),
        };
        match self.view.resolve(&target, false)?.node {
            Some(node) if node.dir.is_some() => Err(mismatch("a file", &target, &node)),
            _ => Ok(target),
        }
    }

    /// Copies what is in a directory into the directory `root`, which exists in the upper directory.
    fn merge(&mut self, origin: &Origin, tree: &Tree, root: &Path) -> Result<(), Problem> {
        let below = self.view.resolve(root, false)?.node.and_then(|node| node.dir);
        // The directories from the root down to where the copy is, each with what exists there and its real path.
        let mut stack = vec![(&tree.items[0], below.unwrap_or_else(Dir::empty), root.to_owned())];
        let mut links = HashMap::new();
        for item @ Item { relative, node } in tree.items.iter().skip(1) {
            self.cancelled.check()?;
            while let Some((dir, _, path)) =
                stack.pop_if(|(dir, ..)| relative.parent() != Some(&*dir.relative))
            {
                self.times.insert(self.in_upper(&path), times_of(&dir.node.meta));
            }
            let (Some((_, here, path)), Some(name)) = (stack.last(), relative.file_name()) else { continue };
            let target = path.join(name);
            let existing = here.child(name)?;
            if node.meta.is_dir() {
                let dir = self.merge_dir(origin, node, existing, &target)?;
                stack.push((item, dir, target));
            } else {
                match existing {
                    Some(existing) if existing.dir.is_some() && !self.taking.replace => {
                        return Err(mismatch("a file", &target, &existing));
                    }
                    _ => self.put_file(origin, node, &target, &mut links)?,
                }
            }
        }
        for (dir, _, path) in stack.into_iter().skip(1) {
            self.times.insert(self.in_upper(&path), times_of(&dir.node.meta));
        }
        Ok(())
    }

    /// Makes a directory of the source at `target`; gives what was there before.
    fn merge_dir(
        &mut self,
        origin: &Origin,
        node: &Node,
        existing: Option<Node>,
        target: &Path,
    ) -> Result<Dir, Problem> {
        let below = match existing {
            Some(Node { dir: Some(dir), .. }) => {
                self.ensure_dir(target)?;
                dir
            }
            // Not even a link to a directory is followed.
            Some(existing) if !self.taking.replace => {
                return Err(mismatch("a directory", target, &existing));
            }
            existing => {
                let replaced = existing.is_some();
                if replaced {
                    self.place_for_file(target)?;
                }
                self.adds_to_parent_of(target);
                self.create_dir(target)?;
                if replaced {
                    // What was hidden below stays hidden.
                    set_xattr(&self.in_upper(target), OsStr::new(OPAQUE_XATTR), b"y")?;
                }
                Dir::empty()
            }
        };
        self.take_over(origin, node, target)?;
        Ok(below)
    }

    /// Copies anything but a directory; `links` knows under which path a file with several names was written.
    fn put_file(
        &mut self,
        origin: &Origin,
        node: &Node,
        target: &Path,
        links: &mut HashMap<(u64, u64), PathBuf>,
    ) -> Result<(), Problem> {
        let path = self.place_for_file(target)?;
        let meta = &node.meta;
        let identity = (meta.dev(), meta.ino());
        let failed = |source| Problem::Io { action: "create", path: path.clone(), source };
        if let Some(first) = links.get(&identity) {
            return fs::hard_link(first, &path).map_err(failed);
        }
        let kind = FileType::from_raw_mode(meta.mode());
        match kind {
            FileType::RegularFile => copy_content(origin, node, &path)?,
            FileType::Symlink => {
                std::os::unix::fs::symlink(node.link()?, &path).map_err(failed)?;
            }
            _ => rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), meta.rdev())
                .map_err(|e| failed(e.into()))?,
        }
        self.take_over(origin, node, target)?;
        if meta.nlink() > 1 {
            links.insert(identity, path);
        }
        Ok(())
    }

    /// The path in the upper directory for a new file, with nothing at it any more.
    fn place_for_file(&mut self, target: &Path) -> Result<PathBuf, Problem> {
        self.ensure_parent(target)?;
        self.adds_to_parent_of(target);
        let path = self.in_upper(target);
        let removed = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => {
                other.map_err(|source| Problem::Io { action: "replace", path: path.clone(), source })?;
            }
        }
        Ok(path)
    }

    /// A directory that something is added to has a new time then.
    fn adds_to_parent_of(&mut self, path: &Path) {
        let parent = self.in_upper(path.parent().unwrap_or(path));
        self.times.remove(&parent);
    }

    fn ensure_parent(&mut self, path: &Path) -> Result<(), Problem> {
        path.parent().map_or(Ok(()), |parent| self.ensure_dir(parent))
    }

    /// Makes sure that the upper directory has this directory, with the owner and mode it has below.
    fn ensure_dir(&mut self, path: &Path) -> Result<(), Problem> {
        // One look is enough for the many files of a directory.
        if fs::symlink_metadata(self.in_upper(path)).is_ok_and(|meta| meta.is_dir()) {
            return Ok(());
        }
        self.ensure_parent(path)?;
        match self.view.resolve(path, false)?.node {
            Some(node) => {
                self.create_dir(path)?;
                self.copy_up(&node, path)
            }
            None => {
                self.adds_to_parent_of(path);
                self.create_dir(path)?;
                let owner = self.taking.owner.unwrap_or_default();
                set_owner_and_mode(&self.in_upper(path), owner, NEW_DIRECTORY_MODE)
            }
        }
    }

    fn create_dir(&self, path: &Path) -> Result<(), Problem> {
        let path = self.in_upper(path);
        match fs::DirBuilder::new().mode(NEW_DIRECTORY_MODE).create(&path) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(|source| Problem::Io { action: "create", path, source }),
        }
    }

    /// Gives a directory of the upper layer what it has in the layers below.
    fn copy_up(&mut self, below: &Node, path: &Path) -> Result<(), Problem> {
        let upper = self.in_upper(path);
        for (name, value) in portable_xattrs(&below.path)? {
            set_xattr(&upper, &name, &value)?;
        }
        let meta = &below.meta;
        set_owner_and_mode(&upper, Owner { uid: meta.uid(), gid: meta.gid() }, meta.mode() & 0o7777)?;
        self.times.insert(upper, times_of(meta));
        Ok(())
    }

    /// Gives a copy its owner, mode, attributes and, unless it is a directory, its time.
    fn take_over(&mut self, origin: &Origin, node: &Node, target: &Path) -> Result<(), Problem> {
        let path = self.in_upper(target);
        let meta = &node.meta;
        let kept = || origin.keeps_owners().then(|| Owner { uid: meta.uid(), gid: meta.gid() });
        let owner = self.taking.owner.or_else(kept).unwrap_or_default();
        if meta.is_symlink() {
            chown(&path, owner)?;
        } else {
            set_owner_and_mode(&path, owner, self.taking.mode.unwrap_or(meta.mode() & 0o7777))?;
            if origin.keeps_owners() {
                // After the owner: chown removes file capabilities.
                for (name, value) in portable_xattrs(&node.path)? {
                    set_xattr(&path, &name, &value)?;
                }
            }
        }
        if meta.is_dir() { Ok(()) } else { set_times(&path, times_of(meta)) }
    }

    fn in_upper(&self, path: &Path) -> PathBuf {
        self.upper.join(path.strip_prefix("/").unwrap_or(path))
    }
}

fn mismatch(kind: &'static str, path: &Path, node: &Node) -> Problem {
    let existing = if node.dir.is_some() {
        "a directory"
    } else if node.meta.is_symlink() {
        "a symbolic link"
    } else {
        "a file"
    };
    Problem::Mismatch { kind, path: path.to_owned(), existing }
}

fn copy_content(origin: &Origin, node: &Node, path: &Path) -> Result<(), Problem> {
    let mut from = origin.open(node)?;
    let failed = |source| Problem::Io { action: "copy to", path: path.to_owned(), source };
    let mut to = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    // Shares the blocks, or copies within the kernel, where the file system can.
    io::copy(&mut from, &mut to).map(drop).map_err(failed)
}

fn chown(path: &Path, owner: Owner) -> Result<(), Problem> {
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| Problem::Io {
        action: "set the owner of",
        path: path.to_owned(),
        source: e.into(),
    })
}

/// The mode comes last: changing the owner clears setuid bits.
fn set_owner_and_mode(path: &Path, owner: Owner, mode: u32) -> Result<(), Problem> {
    chown(path, owner)?;
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(|e| Problem::Io {
        action: "set the mode of",
        path: path.to_owned(),
        source: e.into(),
    })
}

fn times_of(meta: &Metadata) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() };
    Timestamps { last_access: time, last_modification: time }
}

fn set_times(path: &Path, times: Timestamps) -> Result<(), Problem> {
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| Problem::Io {
        action: "set the times of",
        path: path.to_owned(),
        source: e.into(),
    })
}

/// The attributes that belong to a file and not to this host, sorted: those that layers carry.
pub(crate) fn portable_xattrs(path: &Path) -> Result<Vec<(OsString, Vec<u8>)>, Problem> {
    let failed =
        |e: Errno| Problem::Io { action: "read the attributes of", path: path.to_owned(), source: e.into() };
    // Most files have none, which needs no buffer to tell.
    let length = match rustix::fs::llistxattr(path, &mut [0_u8; 0][..]) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut names = vec![0_u8; length];
    let length = rustix::fs::llistxattr(path, &mut names[..]).map_err(failed)?;
    let mut found = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|name| is_portable(name)) {
        let mut value = vec![0_u8; XATTR_MAX_BYTES];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).map_err(failed)?;
        value.truncate(length);
        found.push((OsStr::from_bytes(name).to_owned(), value));
    }
    found.sort_unstable();
    Ok(found)
}

/// The same set as in layers' archives: not overlayfs's own, not SELinux's, not ACLs.
fn is_portable(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let kept = name.starts_with(b"user.") || name.starts_with(b"trusted.") || name == b"security.capability";
    kept && !overlay
}

fn set_xattr(path: &Path, name: &OsStr, value: &[u8]) -> Result<(), Problem> {
    match rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()) {
        // A file system without such attributes loses them, as with Docker.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(Problem::Io { action: "set an attribute of", path: path.to_owned(), source: e.into() }),
    }
}

/// Whether a file is a tar archive, compressed or not: whether its first header has the right checksum.
fn is_archive(file: File) -> bool {
    let mut block = Vec::with_capacity(TAR_BLOCK_BYTES);
    let read =
        decompress(file).and_then(|(_, reader)| reader.take(TAR_BLOCK_BYTES as u64).read_to_end(&mut block));
    if read.ok() != Some(TAR_BLOCK_BYTES) {
        return false;
    }
    // The checksum counts its own field, bytes 148 to 155, as blanks (POSIX, pax interchange format).
    let (field, blanks) = (148..156, 8 * u32::from(b' '));
    let digits = String::from_utf8_lossy(&block[field.clone()]);
    let digits = digits.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    let own: u32 = block[field].iter().map(|b| u32::from(*b)).sum();
    u32::from_str_radix(digits, 8).is_ok_and(|expected| expected == sum - own + blanks)
}
