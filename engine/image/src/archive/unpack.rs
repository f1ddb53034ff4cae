use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::dest::{Destination, NameError, relative};
use super::error::UnpackError;
use super::reader::{Entry, ReadError, TarReader};
use super::{OPAQUE_MARKER, OPAQUE_XATTR, WHITEOUT_PREFIX, Whiteouts, decompress, is_portable_xattr};

/// How an archive is unpacked; the default keeps owners, refuses devices and absolute names, and has [`Limits`].
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// Gives every file to this owner instead of the one the archive names.
    pub owner: Option<Owner>,
    /// Creates block and character devices instead of refusing them.
    pub devices: bool,
    /// What happens to whiteouts.
    pub whiteouts: Whiteouts,
    /// The destination is a root directory: `/x` means `x` in it, as several image builders write layers, and a
    /// symbolic link leads where it would after a chroot. Otherwise absolute names and ways out through links are
    /// refused. `..` in a name always is.
    pub rooted: bool,
    /// What the archive may cost.
    pub limits: Limits,
    /// The directory below the destination that names start from; empty is the destination itself. Links on the way to
    /// it are followed as `rooted` says.
    pub below: PathBuf,
    /// Refuses to put a directory where something else is, and something else where a directory is.
    pub keep_kinds: bool,
}

impl UnpackOptions {
    /// The options for an image's layer.
    pub fn layer(limits: Limits) -> Self {
        let whiteouts = Whiteouts::Overlay;
        Self { devices: true, whiteouts, rooted: true, limits, ..Self::default() }
    }
}

/// The numeric user and group that own a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What an archive may cost, decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the decompressed archive, and bytes of its files with their holes.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for Limits {
    /// 128 GiB and 8 million entries: several times the largest images in use.
    fn default() -> Self {
        Self { bytes: 128 << 30, entries: 8_000_000 }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// Bytes of all files, holes included.
    pub file_bytes: u64,
    /// Entries seen, extension headers not counted.
    pub entries: u64,
}

/// Unpacks a tar archive, compressed or not, below the directory `destination`.
///
/// Existing directories are kept, other existing files replaced. Nothing is ever written outside of `destination`.
///
/// # Errors
/// See [`UnpackError`]; what was unpacked before the error remains.
pub fn unpack(
    source: impl Read + Send,
    destination: &Path,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(destination, flags, Mode::empty())
        .map_err(|e| UnpackError::Destination { path: destination.to_owned(), source: e.into() })?;
    let (_, source) = decompress(source).map_err(UnpackError::Read)?;
    unpack_into(source, root, options)
}

/// Unpacks an uncompressed tar archive below an open directory and reads `source` to its end.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_into(
    source: impl Read,
    destination: OwnedFd,
    options: &UnpackOptions,
) -> Result<Unpacked, UnpackError> {
    let limited = LimitedReader { source, left: options.limits.bytes };
    let mut unpacker = Unpacker {
        archive: TarReader::new(limited),
        destination: Destination::new(destination, options.rooted),
        options,
        directories: Vec::new(),
        done: Unpacked::default(),
        buffer: vec![0; BUFFER_BYTES],
    };
    let mut last = String::new();
    while let Some(entry) = unpacker.archive.next().map_err(|e| read_error(e, &last, options))? {
        last = shown(&entry.path);
        unpacker.entry(&entry, &last)?;
    }
    unpacker.archive.drain().map_err(|e| read_error(e, &last, options))?;
    unpacker.finish_directories()?;
    Ok(unpacker.done)
}

/// Bytes read at once; a buffer that is all zeros becomes a hole.
const BUFFER_BYTES: usize = 128 * 1024;
/// The longest name shown in an error.
const SHOWN_CHARS: usize = 256;

struct Unpacker<'a, R> {
    archive: TarReader<R>,
    destination: Destination,
    options: &'a UnpackOptions,
    /// Directories get their times and modes last: writing into them changes the one and may need the other.
    directories: Vec<(PathBuf, Entry)>,
    done: Unpacked,
    buffer: Vec<u8>,
}

/// Where an entry goes.
struct Place<'a> {
    parent: &'a Path,
    name: &'a OsStr,
    /// The entry's name for errors.
    shown: &'a str,
}

impl<R: Read> Unpacker<'_, R> {
    fn entry(&mut self, entry: &Entry, shown: &str) -> Result<(), UnpackError> {
        let limit = |limit, unit| UnpackError::Limit { entry: shown.to_owned(), limit, unit };
        self.done.entries += 1;
        if self.done.entries > self.options.limits.entries {
            return Err(limit(self.options.limits.entries, "entries"));
        }
        self.done.file_bytes = self.done.file_bytes.saturating_add(entry.size);
        if self.done.file_bytes > self.options.limits.bytes {
            return Err(limit(self.options.limits.bytes, "bytes"));
        }
        let path = relative(&entry.path, self.options.rooted).map_err(|e| refused(shown, e))?;
        let entry_name = path.file_name().map(OsStr::to_owned);
        let path = self.options.below.join(path);
        let Some(name) = entry_name.as_deref() else {
            // The root itself: its attributes only.
            if entry.kind == EntryType::Directory {
                self.directories.push((path, entry.metadata()));
            }
            return Ok(());
        };
        let place = Place { parent: path.parent().unwrap_or(Path::new("")), name, shown };
        if self.options.whiteouts == Whiteouts::Overlay && name.as_bytes().starts_with(WHITEOUT_PREFIX) {
            return self.whiteout(&place);
        }
        if self.options.keep_kinds {
            self.check_kind(entry, &place)?;
        }
        match entry.kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(entry, &place),
            EntryType::Directory => {
                self.directory(&place)?;
                self.directories.push((path, entry.metadata()));
                Ok(())
            }
            EntryType::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.create(&place, "create", |dir, name| rustix::fs::symlinkat(target, dir, name))?;
                self.metadata_by_name(entry, &place)
            }
            EntryType::Link => self.hard_link(entry, &place),
            EntryType::Char | EntryType::Block | EntryType::Fifo => self.node(entry, &place),
            other => Err(UnpackError::Unsafe {
                entry: shown.to_owned(),
                reason: format!("unknown entry type {:?}", char::from(other.as_byte())),
            }),
        }
    }

    /// Fails if a directory would take the place of something else, or the other way round. The texts are Docker's.
    fn check_kind(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), UnpackError> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let existing = match rustix::fs::statat(self.parent(place)?, place.name, nofollow) {
            Err(Errno::NOENT) => return Ok(()),
            existing => existing.map_err(|e| write_error(place.shown, "inspect", e))?,
        };
        let is_dir = FileType::from_raw_mode(existing.st_mode) == FileType::Directory;
        let (name, entry) = (Path::new("/").join(place.parent).join(place.name), entry.kind);
        match (is_dir, entry == EntryType::Directory) {
            (true, false) => {
                Err(UnpackError::Kind { existing: "directory", path: name, new: "non-directory" })
            }
            (false, true) => {
                Err(UnpackError::Kind { existing: "non-directory", path: name, new: "directory" })
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = self.create(place, "create", |dir, name| rustix::fs::openat(dir, name, flags, mode))?;
        self.write_data(entry, &file, place.shown)?;
        let failed = |action| move |e: Errno| write_error(place.shown, action, e);
        let owner = self.owner(entry, place.shown)?;
        rustix::fs::fchown(&file, Some(owner.0), Some(owner.1)).map_err(failed("set the owner of"))?;
        // After the owner, whose change clears the setuid bits.
        rustix::fs::fchmod(&file, permissions(entry)).map_err(failed("set the mode of"))?;
        for (name, value) in portable_xattrs(entry) {
            set_xattr(rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty()))
                .map_err(failed("set an extended attribute of"))?;
        }
        rustix::fs::futimens(&file, &times(entry)).map_err(failed("set the times of"))
    }

    /// Writes the archived pieces to their places; buffers of zeros are left out as holes.
    fn write_data(&mut self, entry: &Entry, file: &OwnedFd, shown: &str) -> Result<(), UnpackError> {
        let failed = |e: Errno| write_error(shown, "write", e);
        let mut hole_at_end = true;
        for &(start, length) in &entry.pieces {
            let mut offset = start;
            let end = start + length;
            while offset < end {
                let wanted = self.buffer.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
                let filled = self.fill(wanted, shown)?;
                let chunk = &self.buffer[..filled];
                hole_at_end = filled == BUFFER_BYTES && is_zero(chunk);
                if !hole_at_end {
                    write_all_at(file, chunk, offset).map_err(failed)?;
                }
                offset += filled as u64;
            }
            hole_at_end |= offset < entry.size;
        }
        if hole_at_end && entry.size > 0 {
            rustix::fs::ftruncate(file, entry.size).map_err(failed)?;
        }
        Ok(())
    }

    /// Fills the buffer with `wanted` bytes, so that holes are found at fixed places.
    fn fill(&mut self, wanted: usize, shown: &str) -> Result<usize, UnpackError> {
        let mut filled = 0;
        while filled < wanted {
            let read = self.archive.read_data(&mut self.buffer[filled..wanted]);
            match read.map_err(|e| read_error(e, shown, self.options))? {
                0 => return Err(UnpackError::Truncated { entry: shown.to_owned() }),
                read => filled += read,
            }
        }
        Ok(filled)
    }

    fn directory(&mut self, place: &Place<'_>) -> Result<(), UnpackError> {
        let mode = Mode::from_raw_mode(0o700);
        let parent = self.parent(place)?;
        match rustix::fs::mkdirat(parent, place.name, mode) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(e) => return Err(write_error(place.shown, "create", e)),
        }
        let existing = rustix::fs::statat(parent, place.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| write_error(place.shown, "inspect", e))?;
        if FileType::from_raw_mode(existing.st_mode) == FileType::Directory {
            return Ok(());
        }
        self.create(place, "create", |dir, name| rustix::fs::mkdirat(dir, name, mode))?;
        if self.options.whiteouts == Whiteouts::Overlay && is_whiteout(&existing) {
            // The layer deletes the directory below and makes a new one.
            return self.make_opaque(&place.parent.join(place.name), place.shown);
        }
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), UnpackError> {
        let unsafe_target = |reason: String| UnpackError::Unsafe { entry: place.shown.to_owned(), reason };
        let target = relative(&entry.link, self.options.rooted)
            .map_err(|e| unsafe_target(format!("hard link to {:?}: {e}", shown(&entry.link))))?;
        let target = self.options.below.join(target);
        let target_name =
            target.file_name().ok_or_else(|| unsafe_target("hard link to the root directory".to_owned()))?;
        if target == place.parent.join(place.name) {
            return Err(unsafe_target("hard link to itself".to_owned()));
        }
        let target_dir =
            self.destination.open_dir(target.parent().unwrap_or(Path::new(""))).map_err(|e| match e {
                Errno::LOOP | Errno::XDEV => refused_link(place.shown, e),
                e => write_error(place.shown, "find the target of the hard link", e),
            })?;
        // Without AT_SYMLINK_FOLLOW a symbolic link is linked itself, never what it points at.
        self.create(place, "create the hard link", |dir, name| {
            rustix::fs::linkat(&target_dir, target_name, dir, name, AtFlags::empty())
        })
    }

    fn node(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), UnpackError> {
        let kind = match entry.kind {
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if kind != FileType::Fifo && !self.options.devices {
            return Err(UnpackError::Device { entry: place.shown.to_owned() });
        }
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        let mode = Mode::from_raw_mode(0o600);
        self.create(place, "create", |dir, name| rustix::fs::mknodat(dir, name, kind, mode, device))?;
        self.metadata_by_name(entry, place)
    }

    fn whiteout(&mut self, place: &Place<'_>) -> Result<(), UnpackError> {
        if place.name.as_bytes() == OPAQUE_MARKER {
            return self.make_opaque(place.parent, place.shown);
        }
        let hidden = &place.name.as_bytes()[WHITEOUT_PREFIX.len()..];
        if hidden.starts_with(WHITEOUT_PREFIX) {
            // AUFS's own bookkeeping (`.wh..wh.plnk`), which old images still carry.
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            let reason = "a whiteout of no file".to_owned();
            return Err(UnpackError::Unsafe { entry: place.shown.to_owned(), reason });
        }
        let name = OsStr::from_bytes(hidden);
        let parent = self.parent(place)?;
        let mode = Mode::from_raw_mode(0o000);
        match rustix::fs::mknodat(parent, name, FileType::CharacterDevice, mode, 0) {
            Ok(()) => Ok(()),
            // A whiteout hides what lies below, never what its own layer brings.
            Err(Errno::EXIST) => {
                let existing = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(|e| write_error(place.shown, "inspect", e))?;
                if FileType::from_raw_mode(existing.st_mode) == FileType::Directory {
                    return self.make_opaque(&place.parent.join(name), place.shown);
                }
                Ok(())
            }
            Err(e) => Err(write_error(place.shown, "create the whiteout", e)),
        }
    }

    fn make_opaque(&mut self, path: &Path, shown: &str) -> Result<(), UnpackError> {
        let failed = |e| write_error(shown, "mark as opaque the directory of", e);
        let dir = self.destination.parent(path).map_err(failed)?;
        rustix::fs::fsetxattr(dir, OPAQUE_XATTR, b"y", XattrFlags::empty()).map_err(failed)
    }

    fn parent(&mut self, place: &Place<'_>) -> Result<BorrowedFd<'_>, UnpackError> {
        self.destination.parent(place.parent).map_err(|e| match e {
            Errno::LOOP | Errno::XDEV => refused_link(place.shown, e),
            e => write_error(place.shown, "open the directory of", e),
        })
    }

    /// Creates a name, replacing what stands there.
    fn create<T>(
        &mut self,
        place: &Place<'_>,
        action: &'static str,
        make: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        match make(self.parent(place)?, place.name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|e| write_error(place.shown, action, e)),
        }
        self.destination
            .clear(place.parent, place.name)
            .map_err(|e| write_error(place.shown, "replace", e))?;
        make(self.parent(place)?, place.name).map_err(|e| write_error(place.shown, action, e))
    }

    /// Sets the attributes of what cannot be opened: links, devices, fifos.
    fn metadata_by_name(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), UnpackError> {
        let failed = |action| move |e: Errno| write_error(place.shown, action, e);
        let owner = self.owner(entry, place.shown)?;
        let parent = self.parent(place)?;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent, place.name, Some(owner.0), Some(owner.1), nofollow)
            .map_err(failed("set the owner of"))?;
        if entry.kind != EntryType::Symlink {
            rustix::fs::chmodat(parent, place.name, permissions(entry), AtFlags::empty())
                .map_err(failed("set the mode of"))?;
        }
        for (name, value) in portable_xattrs(entry) {
            // There is no lsetxattrat before Linux 6.13; /proc names the directory without resolving its path again.
            let mut path = OsString::from(format!("/proc/self/fd/{}/", parent.as_raw_fd()));
            path.push(place.name);
            set_xattr(rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty()))
                .map_err(failed("set an extended attribute of"))?;
        }
        rustix::fs::utimensat(parent, place.name, &times(entry), nofollow).map_err(failed("set the times of"))
    }

    fn finish_directories(&mut self) -> Result<(), UnpackError> {
        for (path, entry) in std::mem::take(&mut self.directories) {
            let shown = shown(path.as_os_str().as_bytes());
            let failed = |action| {
                let shown = &shown;
                move |e: Errno| write_error(shown, action, e)
            };
            let dir = match self.destination.open_dir_itself(&path) {
                Ok(dir) => dir,
                // A later entry replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
                Err(e) => return Err(write_error(&shown, "open", e)),
            };
            let owner = self.owner(&entry, &shown)?;
            rustix::fs::fchown(&dir, Some(owner.0), Some(owner.1)).map_err(failed("set the owner of"))?;
            rustix::fs::fchmod(&dir, permissions(&entry)).map_err(failed("set the mode of"))?;
            for (name, value) in portable_xattrs(&entry) {
                set_xattr(rustix::fs::fsetxattr(&dir, name, value, XattrFlags::empty()))
                    .map_err(failed("set an extended attribute of"))?;
            }
            rustix::fs::futimens(dir.as_fd(), &times(&entry)).map_err(failed("set the times of"))?;
        }
        Ok(())
    }

    fn owner(&self, entry: &Entry, shown: &str) -> Result<(Uid, Gid), UnpackError> {
        if let Some(owner) = self.options.owner {
            return Ok((Uid::from_raw(owner.uid), Gid::from_raw(owner.gid)));
        }
        // The highest number means "leave as it is" to chown(2).
        let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
        match (id(entry.uid), id(entry.gid)) {
            (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
            _ => {
                let reason = format!("owner {}:{} is out of range", entry.uid, entry.gid);
                Err(UnpackError::Unsafe { entry: shown.to_owned(), reason })
            }
        }
    }
}

impl Entry {
    /// What a directory needs once all is unpacked.
    fn metadata(&self) -> Self {
        Self { path: Vec::new(), link: Vec::new(), xattrs: self.xattrs.clone(), pieces: Vec::new(), ..*self }
    }
}

/// Stops with an error once more was read than allowed: a few kilobytes of gzip can hold terabytes.
struct LimitedReader<R> {
    source: R,
    left: u64,
}

/// Marks the limit's error among those of the source.
#[derive(Debug, thiserror::Error)]
#[error("archive exceeds its limit")]
struct LimitReached;

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(io::Error::other(LimitReached)),
        }
        Ok(read)
    }
}

fn read_error(error: ReadError, last: &str, options: &UnpackOptions) -> UnpackError {
    let entry = last.to_owned();
    match error {
        ReadError::Io(e) if e.get_ref().and_then(|e| e.downcast_ref::<LimitReached>()).is_some() => {
            UnpackError::Limit { entry, limit: options.limits.bytes, unit: "bytes" }
        }
        ReadError::Io(e) => UnpackError::Read(e),
        ReadError::Truncated => UnpackError::Truncated { entry },
        other => UnpackError::Malformed { entry, reason: other.to_string() },
    }
}

fn refused(entry: &str, error: NameError) -> UnpackError {
    UnpackError::Unsafe { entry: entry.to_owned(), reason: error.to_string() }
}

fn refused_link(entry: &str, error: Errno) -> UnpackError {
    let reason = match error {
        Errno::XDEV => "the path leads out through a symbolic link",
        _ => "the path leads through too many or magic symbolic links",
    };
    UnpackError::Unsafe { entry: entry.to_owned(), reason: reason.to_owned() }
}

fn write_error(entry: &str, action: &'static str, source: Errno) -> UnpackError {
    UnpackError::Write { entry: entry.to_owned(), action, source: source.into() }
}

/// A name from the archive, fit for an error: no control bytes pass (`{:?}` escapes them), nothing too long.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(SHOWN_CHARS).collect()
}

fn permissions(entry: &Entry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o7777)
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.0, tv_nsec: i64::from(entry.mtime.1) };
    Timestamps { last_access: time, last_modification: time }
}

fn portable_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry
        .xattrs
        .iter()
        .filter(|(name, _)| is_portable_xattr(name))
        .map(|(name, value)| (&name[..], &value[..]))
}

/// A file system without such attributes loses them, as with Docker; nothing else is forgiven.
fn set_xattr(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_zero(chunk: &[u8]) -> bool {
    // Comparing with itself shifted by one lets the optimiser use memcmp.
    chunk.first().is_none_or(|&b| b == 0) && chunk[1..] == chunk[..chunk.len() - 1]
}

fn write_all_at(file: &OwnedFd, mut chunk: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !chunk.is_empty() {
        match rustix::io::pwrite(file, chunk, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                chunk = &chunk[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
