//! What a kept snapshot was made of, so that the next run copies only what has changed since.
//!
//! On disk, little-endian: [`MAGIC`]; the machine's boot id, 36 bytes; the bytes that the tree takes, u64; the number
//! of repositories, u32, and their paths; the number of files, u64, and for each its path, six u64 of its
//! [`FileStat`] and a byte that says whether it is settled. A path is its length, u32, and its bytes. The file appears
//! by rename when the tree is complete and goes before the tree is changed: without it a tree is worth nothing.
//!
//! Like git's index it takes a file for unchanged when its inode, size, times and mode are. A file that changed
//! shortly before it was read may have changed again after it with the same time, so it is not settled: it is copied
//! once more the next time (git calls this racily clean).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Stat, Timespec};

use super::{At, SnapshotError};

/// The file's name in a snapshot's directory.
pub(super) const FILE: &str = "index";
const FILE_ASIDE: &str = "index.new";
/// The format and its version.
const MAGIC: &[u8; 8] = b"lighter1";
/// Linux's `/proc/sys/kernel/random/boot_id`.
const BOOT_ID_LENGTH: usize = 36;
const HEAD_LENGTH: usize = MAGIC.len() + BOOT_ID_LENGTH + size_of::<u64>();
/// How long before it was read a file must have last changed: the coarsest time stamps are FAT's, two seconds.
const SETTLED_AFTER_NANOSECONDS: i128 = 2_000_000_000;

/// What tells that a file has not changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FileStat {
    device: u64,
    inode: u64,
    mode: u64,
    size: u64,
    /// Nanoseconds since 1970, wrapped: they are only compared.
    modified: u64,
    /// Of the inode: what was written cannot hide from it.
    changed: u64,
}

impl FileStat {
    pub(super) fn new(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode.into(),
            size: stat.st_size as u64,
            modified: nanoseconds(stat.st_mtime, i128::from(stat.st_mtime_nsec)) as u64,
            changed: nanoseconds(stat.st_ctime, i128::from(stat.st_ctime_nsec)) as u64,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether a change from `now` on must show in its times.
    pub(super) fn is_settled(&self, now: Timespec) -> bool {
        let changed = i128::from(self.changed as i64);
        changed + SETTLED_AFTER_NANOSECONDS < nanoseconds(now.tv_sec, i128::from(now.tv_nsec))
    }

    fn fields(&self) -> [u64; 6] {
        [self.device, self.inode, self.mode, self.size, self.modified, self.changed]
    }
}

fn nanoseconds(seconds: i64, rest: i128) -> i128 {
    i128::from(seconds) * 1_000_000_000 + rest
}

/// A file or symbolic link of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// From the checkout's root.
    pub(super) path: PathBuf,
    /// The original's, before it was read.
    pub(super) stat: FileStat,
    /// See the module's head.
    pub(super) settled: bool,
}

/// What a tree consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// What the tree takes, git's own files included.
    pub(super) bytes: u64,
    /// The roots of the repository and its submodules.
    pub(super) repositories: Vec<PathBuf>,
    /// In order of their paths.
    pub(super) files: Vec<Record>,
}

impl Index {
    /// Reads the index in `dir`; `None` if there is none that holds: of another boot of the machine, since the tree's
    /// files may never have reached the disk, or damaged.
    pub(super) fn load(dir: &Path, boot_id: &str) -> Option<Self> {
        let bytes = fs::read(dir.join(FILE)).ok()?;
        let mut rest = Reader(&bytes);
        let size = rest.head(boot_id)?;
        let repositories = (0..rest.u32()?).map(|_| rest.path()).collect::<Option<_>>()?;
        let files = (0..rest.u64()?).map(|_| rest.record()).collect::<Option<_>>()?;
        rest.0.is_empty().then_some(Self { bytes: size, repositories, files })
    }

    /// The bytes of the tree in `dir`; `None` if its index does not hold.
    pub(super) fn tree_bytes(dir: &Path, boot_id: &str) -> Option<u64> {
        let mut head = [0; HEAD_LENGTH];
        File::open(dir.join(FILE)).ok()?.read_exact(&mut head).ok()?;
        Reader(&head).head(boot_id)
    }

    /// Puts the index into `dir`.
    pub(super) fn store(&self, dir: &Path, boot_id: &str) -> Result<(), SnapshotError> {
        let mut bytes = Vec::with_capacity(HEAD_LENGTH + self.files.len() * 128);
        bytes.extend(MAGIC);
        bytes.extend(boot_id.as_bytes());
        bytes.extend(self.bytes.to_le_bytes());
        bytes.extend((self.repositories.len() as u32).to_le_bytes());
        self.repositories.iter().for_each(|path| push_path(&mut bytes, path));
        bytes.extend((self.files.len() as u64).to_le_bytes());
        for file in &self.files {
            push_path(&mut bytes, &file.path);
            file.stat.fields().iter().for_each(|field| bytes.extend(field.to_le_bytes()));
            bytes.push(u8::from(file.settled));
        }
        let (aside, path) = (dir.join(FILE_ASIDE), dir.join(FILE));
        fs::write(&aside, bytes).at("write", &aside)?;
        fs::rename(&aside, &path).at("write", &path)
    }

    /// Takes the index in `dir` away, if there is one: its tree is about to change.
    pub(super) fn remove(dir: &Path) -> Result<(), SnapshotError> {
        let path = dir.join(FILE);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.at("remove", &path),
        }
    }
}

/// This boot of the machine.
pub(super) fn boot_id(proc: &Path) -> Result<String, SnapshotError> {
    let path = proc.join("sys/kernel/random/boot_id");
    let text = fs::read_to_string(&path).at("read", &path)?;
    let id = text.trim();
    if id.len() == BOOT_ID_LENGTH {
        return Ok(id.to_owned());
    }
    Err(io::Error::from(io::ErrorKind::InvalidData)).at("read", &path)
}

fn push_path(bytes: &mut Vec<u8>, path: &Path) {
    let path = path.as_os_str().as_bytes();
    bytes.extend((path.len() as u32).to_le_bytes());
    bytes.extend(path);
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn head(&mut self, boot_id: &str) -> Option<u64> {
        let holds = self.bytes(MAGIC.len())? == MAGIC && self.bytes(BOOT_ID_LENGTH)? == boot_id.as_bytes();
        if holds { self.u64() } else { None }
    }

    fn record(&mut self) -> Option<Record> {
        let path = self.path()?;
        let mut next = || self.u64();
        let stat = FileStat {
            device: next()?,
            inode: next()?,
            mode: next()?,
            size: next()?,
            modified: next()?,
            changed: next()?,
        };
        Some(Record { path, stat, settled: self.bytes(1)? == [1] })
    }

    fn path(&mut self) -> Option<PathBuf> {
        let length = self.u32()? as usize;
        self.bytes(length).map(|bytes| PathBuf::from(OsStr::from_bytes(bytes)))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "00000000-0000-4000-8000-000000000000";

    fn index() -> Index {
        let stat = FileStat { device: 1, inode: 2, mode: 3, size: 4, modified: 5, changed: u64::MAX };
        let record = |path: &str, settled| Record { path: path.into(), stat, settled };
        Index {
            bytes: 9,
            repositories: vec![PathBuf::new(), "deps/lib".into()],
            files: vec![record("a", true), record("b/c", false)],
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        index().store(dir.path(), BOOT).unwrap();
        assert_eq!(Index::load(dir.path(), BOOT), Some(index()));
        assert_eq!(Index::tree_bytes(dir.path(), BOOT), Some(9));
        assert_eq!(Index::load(dir.path(), &BOOT.replace('4', "5")), None);
        Index::remove(dir.path()).unwrap();
        Index::remove(dir.path()).unwrap();
        assert_eq!(Index::load(dir.path(), BOOT), None);
    }

    #[test]
    fn a_damaged_one_does_not_hold() {
        let dir = tempfile::tempdir().unwrap();
        index().store(dir.path(), BOOT).unwrap();
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(Index::load(dir.path(), BOOT), None, "{length}");
        }
        fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert_eq!(Index::load(dir.path(), BOOT), None);
    }

    #[test]
    fn what_changed_just_now_is_not_settled() {
        let changed =
            |seconds: i64| FileStat { changed: nanoseconds(seconds, 0) as u64, ..index().files[0].stat };
        let now = Timespec { tv_sec: 1000, tv_nsec: 0 };
        assert!(changed(997).is_settled(now));
        assert!(
            !changed(998).is_settled(now) && !changed(1000).is_settled(now) && !changed(1500).is_settled(now)
        );
    }
}
