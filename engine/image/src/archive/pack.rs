use std::collections::{BTreeSet, HashMap};
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use engine_types::ErrorKind;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tar::{EntryType, Header};

use super::{
    OPAQUE_MARKER, OPAQUE_XATTR, Owner, WHITEOUT_PREFIX, Whiteouts, XATTR_RECORD, is_portable_xattr,
};

/// How a directory becomes an archive.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackOptions {
    /// What happens to overlayfs's whiteouts.
    pub whiteouts: Whiteouts,
    /// Names this owner instead of each file's own.
    pub owner: Option<Owner>,
}

/// A failure to make an archive.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file could not be read.
    #[error("failed to {action} {path:?}")]
    Read {
        /// The file, relative to what is packed.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file became shorter while it was read.
    #[error("{path:?} became shorter while it was read")]
    Changed {
        /// The file, relative to what is packed.
        path: PathBuf,
    },
    /// Something that the archive format or a layer cannot express.
    #[error("{path:?} cannot be archived: {reason}")]
    Inexpressible {
        /// The file, relative to what is packed.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The archive could not be written.
    #[error("failed to write the archive")]
    Write(#[source] io::Error),
}

impl PackError {
    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Changed { .. } => ErrorKind::Conflict,
            Self::Inexpressible { .. } => ErrorKind::Unsupported,
            Self::Read { .. } | Self::Write(_) => ErrorKind::Internal,
        }
    }
}

/// Writes the contents of the directory `source` as an archive, without an entry for the directory itself.
///
/// The same tree gives the same bytes: entries are sorted, owners numeric, access times left out.
///
/// # Errors
/// See [`PackError`].
pub fn pack<W: Write>(source: &Path, options: PackOptions, out: W) -> Result<Packed<W>, PackError> {
    let mut packer = Packer::new(out, options);
    packer.add_contents(source)?;
    packer.finish()
}

/// A finished archive.
#[derive(Debug)]
pub struct Packed<W> {
    /// Where it was written.
    pub out: W,
    /// Bytes of all files, each of several hard links counted once.
    pub file_bytes: u64,
}

const BLOCK_BYTES: u64 = 512;
const BUFFER_BYTES: usize = 128 * 1024;
const NAME_FIELD_BYTES: usize = 100;
/// The largest numbers that the octal header fields hold.
const OCTAL_7_MAX: u64 = 0o777_7777;
const OCTAL_11_MAX: u64 = 0o777_7777_7777;
/// The longest extended attribute (Linux's XATTR_SIZE_MAX) and list of their names (XATTR_LIST_MAX).
const XATTR_MAX_BYTES: usize = 65_536;

/// Makes one archive of several trees.
pub struct Packer<W> {
    out: W,
    options: PackOptions,
    /// The archive's name of each file that has several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    file_bytes: u64,
    without: BTreeSet<PathBuf>,
}

/// One file to archive.
struct Source<'a> {
    parent: BorrowedFd<'a>,
    file_name: &'a OsStr,
    /// Its name in the archive.
    name: PathBuf,
    stat: Stat,
}

impl<W: Write> Packer<W> {
    /// Starts an archive.
    pub fn new(out: W, options: PackOptions) -> Self {
        Self {
            out,
            options,
            linked: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
            file_bytes: 0,
            without: BTreeSet::new(),
        }
    }

    /// Leaves out what would get one of these names.
    pub fn without(self, without: BTreeSet<PathBuf>) -> Self {
        Self { without, ..self }
    }

    /// Adds the file or tree at `path` under the name `name`. A symbolic link is archived itself.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn add(&mut self, path: &Path, name: &Path) -> Result<(), PackError> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = open_dir(rustix::fs::CWD, parent.as_os_str(), path)?;
        let file_name = path.file_name().unwrap_or(OsStr::new("."));
        self.add_at(parent.as_fd(), file_name, name.to_owned())
    }

    /// Adds what is in the directory `path`, without an entry for the directory itself.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn add_contents(&mut self, path: &Path) -> Result<(), PackError> {
        let dir = open_dir(rustix::fs::CWD, path.as_os_str(), path)?;
        self.children(&dir, Path::new(""))
    }

    /// Adds what has this name in an open directory, under the name `name`. A symbolic link is archived itself.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn add_from(&mut self, dir: BorrowedFd<'_>, file_name: &OsStr, name: &Path) -> Result<(), PackError> {
        self.add_at(dir, file_name, name.to_owned())
    }

    /// Adds what is in an open directory, without an entry for the directory itself.
    ///
    /// # Errors
    /// See [`PackError`].
    pub fn add_contents_from(&mut self, dir: BorrowedFd<'_>) -> Result<(), PackError> {
        let dir = open_dir(dir, OsStr::new("."), Path::new(""))?;
        self.children(&dir, Path::new(""))
    }

    /// Writes the end marker and gives the writer back.
    ///
    /// # Errors
    /// [`PackError::Write`].
    pub fn finish(mut self) -> Result<Packed<W>, PackError> {
        self.write(&[0; 2 * BLOCK_BYTES as usize])?;
        self.out.flush().map_err(PackError::Write)?;
        Ok(Packed { out: self.out, file_bytes: self.file_bytes })
    }

    fn add_at(&mut self, parent: BorrowedFd<'_>, file_name: &OsStr, name: PathBuf) -> Result<(), PackError> {
        let stat = rustix::fs::statat(parent, file_name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| read_error(&name, "inspect", e))?;
        if !self.without.is_empty() && self.without.contains(&name) {
            return Ok(());
        }
        let source = Source { parent, file_name, name, stat };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Socket {
            // A socket means nothing without the process behind it; tar has no entry for it.
            return Ok(());
        }
        if self.options.whiteouts == Whiteouts::Overlay
            && kind == FileType::CharacterDevice
            && stat.st_rdev == 0
        {
            return self.whiteout(&source);
        }
        if kind == FileType::Directory {
            return self.directory(&source);
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                let first = first.clone();
                return self.header(&source, EntryType::Link, 0, &first, &[]);
            }
            let name = source.name.as_os_str().as_bytes().to_vec();
            self.linked.insert((stat.st_dev, stat.st_ino), name);
        }
        match kind {
            FileType::RegularFile => self.file(&source),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(parent, file_name, Vec::new())
                    .map_err(|e| read_error(&source.name, "read the link", e))?;
                let xattrs = self.xattrs_by_name(&source)?;
                self.header(&source, EntryType::Symlink, 0, target.as_bytes(), &xattrs)
            }
            FileType::CharacterDevice => self.node(&source, EntryType::Char),
            FileType::BlockDevice => self.node(&source, EntryType::Block),
            FileType::Fifo => self.node(&source, EntryType::Fifo),
            _ => {
                let reason = format!("unknown file type, mode {:o}", stat.st_mode);
                Err(PackError::Inexpressible { path: source.name, reason })
            }
        }
    }

    fn node(&mut self, source: &Source<'_>, kind: EntryType) -> Result<(), PackError> {
        let xattrs = self.xattrs_by_name(source)?;
        self.header(source, kind, 0, b"", &xattrs)
    }

    fn directory(&mut self, source: &Source<'_>) -> Result<(), PackError> {
        let dir = open_dir(source.parent, source.file_name, &source.name)?;
        let xattrs = self.xattrs(&dir, &source.name)?;
        self.header(source, EntryType::Directory, 0, b"", &xattrs)?;
        if self.options.whiteouts == Whiteouts::Overlay && is_opaque(&dir, &source.name)? {
            self.marker(&source.name.join(OsStr::from_bytes(OPAQUE_MARKER)))?;
        }
        self.children(&dir, &source.name)
    }

    fn children(&mut self, dir: &OwnedFd, name: &Path) -> Result<(), PackError> {
        let failed = |e| read_error(name, "list", e);
        let mut children: Vec<CString> = Vec::new();
        for entry in Dir::read_from(dir).map_err(failed)? {
            let file_name = entry.map_err(failed)?.file_name().to_owned();
            if !matches!(file_name.as_bytes(), b"." | b"..") {
                children.push(file_name);
            }
        }
        children.sort_unstable();
        for child in children {
            let file_name = OsStr::from_bytes(child.as_bytes());
            self.add_at(dir.as_fd(), file_name, name.join(file_name))?;
        }
        Ok(())
    }

    fn file(&mut self, source: &Source<'_>) -> Result<(), PackError> {
        let failed = |action| move |e| read_error(&source.name, action, e);
        // A fifo put in the file's place meanwhile must not block us.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(source.parent, source.file_name, flags, Mode::empty())
            .map_err(failed("open"))?;
        let xattrs = self.xattrs(&file, &source.name)?;
        let size = u64::try_from(source.stat.st_size).unwrap_or(0);
        self.header(source, EntryType::Regular, size, b"", &xattrs)?;
        let mut file = std::fs::File::from(file);
        let mut left = size;
        while left > 0 {
            let wanted = BUFFER_BYTES.min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = match file.read(&mut self.buffer[..wanted]) {
                Ok(0) => return Err(PackError::Changed { path: source.name.clone() }),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(PackError::Read { path: source.name.clone(), action: "read", source: e });
                }
            };
            self.out.write_all(&self.buffer[..read]).map_err(PackError::Write)?;
            left -= read as u64;
        }
        self.file_bytes += size;
        self.pad(size)
    }

    fn whiteout(&mut self, source: &Source<'_>) -> Result<(), PackError> {
        let mut hidden = OsString::from(OsStr::from_bytes(WHITEOUT_PREFIX));
        hidden.push(source.file_name);
        self.marker(&source.name.with_file_name(hidden))
    }

    /// An empty file that only its name says something.
    fn marker(&mut self, name: &Path) -> Result<(), PackError> {
        let fields = Fields { mode: 0o644, ..Fields::default() };
        self.write_header(name.as_os_str().as_bytes(), EntryType::Regular, &fields, b"", &[])
    }

    fn header(
        &mut self,
        source: &Source<'_>,
        kind: EntryType,
        size: u64,
        link: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), PackError> {
        let mut name = source.name.as_os_str().as_bytes().to_vec();
        if kind == EntryType::Directory && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let stat = &source.stat;
        let owner = self.options.owner.unwrap_or(Owner { uid: stat.st_uid, gid: stat.st_gid });
        let fields = Fields {
            mode: stat.st_mode & 0o7777,
            owner,
            size,
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        };
        self.write_header(&name, kind, &fields, link, xattrs)
    }

    fn write_header(
        &mut self,
        name: &[u8],
        kind: EntryType,
        fields: &Fields,
        link: &[u8],
        xattrs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), PackError> {
        let mut header = Header::new_ustar();
        let mut records = Vec::new();
        let old = header.as_old_mut();
        put_text(&mut old.name, name, "path", &mut records);
        put_text(&mut old.linkname, link, "linkpath", &mut records);
        header.set_entry_type(kind);
        header.set_mode(fields.mode);
        header.set_uid(number(u64::from(fields.owner.uid), OCTAL_7_MAX, "uid", &mut records));
        header.set_gid(number(u64::from(fields.owner.gid), OCTAL_7_MAX, "gid", &mut records));
        header.set_size(number(fields.size, OCTAL_11_MAX, "size", &mut records));
        header.set_mtime(fields.header_mtime(&mut records));
        if matches!(kind, EntryType::Char | EntryType::Block) {
            let failed = |e| PackError::Inexpressible { path: to_path(name), reason: format!("device: {e}") };
            header.set_device_major(fields.device.0).map_err(failed)?;
            header.set_device_minor(fields.device.1).map_err(failed)?;
        }
        for (xattr, value) in xattrs {
            let keyword = [XATTR_RECORD.as_bytes(), xattr].concat();
            if keyword.contains(&b'=') {
                let reason = format!("attribute name {:?} contains \"=\"", String::from_utf8_lossy(xattr));
                return Err(PackError::Inexpressible { path: to_path(name), reason });
            }
            push_record(&mut records, &keyword, value);
        }
        header.set_cksum();
        if !records.is_empty() {
            self.extension(&records)?;
        }
        self.write(header.as_bytes())
    }

    fn extension(&mut self, records: &[u8]) -> Result<(), PackError> {
        let mut header = Header::new_ustar();
        put_text(&mut header.as_old_mut().name, b"././@PaxHeader", "path", &mut Vec::new());
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.write(header.as_bytes())?;
        self.write(records)?;
        self.pad(records.len() as u64)
    }

    fn pad(&mut self, size: u64) -> Result<(), PackError> {
        let padding = size.next_multiple_of(BLOCK_BYTES) - size;
        self.out.write_all(&[0; BLOCK_BYTES as usize][..padding as usize]).map_err(PackError::Write)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), PackError> {
        self.out.write_all(bytes).map_err(PackError::Write)
    }

    fn xattrs(&self, file: &OwnedFd, name: &Path) -> Result<XattrList, PackError> {
        collect_xattrs(
            name,
            self.options.whiteouts,
            |list| rustix::fs::flistxattr(file, list),
            |xattr, value| rustix::fs::fgetxattr(file, xattr, value),
        )
    }

    /// For what cannot be opened; see `metadata_by_name` in the unpacker for the path.
    fn xattrs_by_name(&self, source: &Source<'_>) -> Result<XattrList, PackError> {
        let mut path = OsString::from(format!("/proc/self/fd/{}/", source.parent.as_raw_fd()));
        path.push(source.file_name);
        collect_xattrs(
            &source.name,
            self.options.whiteouts,
            |list| rustix::fs::llistxattr(&path, list),
            |xattr, value| rustix::fs::lgetxattr(&path, xattr, value),
        )
    }
}

/// The numeric fields of a header.
#[derive(Default)]
struct Fields {
    mode: u32,
    owner: Owner,
    size: u64,
    seconds: i64,
    nanoseconds: u32,
    device: (u32, u32),
}

impl Fields {
    /// The header's time in whole seconds, the exact time as a record where the header cannot hold it.
    fn header_mtime(&self, records: &mut Vec<u8>) -> u64 {
        let seconds = u64::try_from(self.seconds).ok().filter(|&s| s <= OCTAL_11_MAX);
        if self.nanoseconds != 0 || seconds.is_none() {
            push_record(records, b"mtime", exact_time(self.seconds, self.nanoseconds).as_bytes());
        }
        seconds.unwrap_or(0)
    }
}

/// Seconds with nine digits after the point; before 1970 the fraction counts down from the whole second above.
fn exact_time(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds > 0 {
        return format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}

type XattrList = Vec<(Vec<u8>, Vec<u8>)>;

fn collect_xattrs(
    path: &Path,
    whiteouts: Whiteouts,
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<XattrList, PackError> {
    let mut few = [0; 256];
    let mut many = Vec::new();
    let mut names = &mut few[..];
    let mut listed = list(names);
    if listed == Err(Errno::RANGE) {
        many.resize(XATTR_MAX_BYTES, 0);
        names = &mut many;
        listed = list(names);
    }
    let length = match listed {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(length) => length,
        Err(e) => return Err(read_error(path, "list the attributes of", e)),
    };
    let mut found = Vec::new();
    let mut value = vec![0; XATTR_MAX_BYTES];
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        if whiteouts == Whiteouts::Overlay
            && matches!(name, b"trusted.overlay.redirect" | b"trusted.overlay.metacopy")
        {
            // Such an upper directory holds only part of the file; mounts for builds turn these features off.
            let reason = format!("it depends on its lower layers ({})", String::from_utf8_lossy(name));
            return Err(PackError::Inexpressible { path: path.to_owned(), reason });
        }
        if !is_portable_xattr(name) {
            continue;
        }
        match get(OsStr::from_bytes(name), &mut value) {
            Ok(length) => found.push((name.to_vec(), value[..length].to_vec())),
            Err(Errno::NODATA) => {}
            Err(e) => return Err(read_error(path, "read an attribute of", e)),
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn is_opaque(dir: &OwnedFd, path: &Path) -> Result<bool, PackError> {
    let mut value = [0; 2];
    match rustix::fs::fgetxattr(dir, OPAQUE_XATTR, &mut value[..]) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(e) => Err(read_error(path, "read an attribute of", e)),
    }
}

fn open_dir(parent: BorrowedFd<'_>, name: &OsStr, shown: &Path) -> Result<OwnedFd, PackError> {
    let nofollow =
        if parent.as_raw_fd() == rustix::fs::CWD.as_raw_fd() { OFlags::empty() } else { OFlags::NOFOLLOW };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | nofollow;
    rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(|e| read_error(shown, "open", e))
}

/// Puts text into a header field if it fits, or else as much as fits and the whole as a record.
fn put_text(field: &mut [u8; NAME_FIELD_BYTES], text: &[u8], keyword: &str, records: &mut Vec<u8>) {
    let fitting = text.len().min(field.len());
    field[..fitting].copy_from_slice(&text[..fitting]);
    if fitting < text.len() {
        push_record(records, keyword.as_bytes(), text);
    }
}

fn number(value: u64, max: u64, keyword: &str, records: &mut Vec<u8>) -> u64 {
    if value <= max {
        return value;
    }
    push_record(records, keyword.as_bytes(), value.to_string().as_bytes());
    0
}

/// Appends `<length> <keyword>=<value>\n`, where the length counts its own digits.
fn push_record(records: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(keyword);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn to_path(name: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(name))
}

fn read_error(path: &Path, action: &'static str, source: Errno) -> PackError {
    PackError::Read { path: path.to_owned(), action, source: source.into() }
}
