//! Copying many files, by several threads, sharing their blocks where the file system can.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::{At, SnapshotError};

/// The most threads that copy; more only wait for the file system's locks.
const MAX_THREADS: usize = 8;
/// How many files a thread takes at once.
const BATCH_FILES: usize = 64;
/// Up to this length reading and writing takes fewer system calls than letting the kernel copy.
const SMALL_FILE_BYTES: i64 = 16 * 1024;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// The modes that git knows.
const EXECUTABLE_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
/// What makes a file executable to git.
const OWNER_EXECUTES: u32 = 0o100;

/// What was copied.
pub(super) struct Copied {
    /// Those that existed, in order.
    pub(super) files: Vec<PathBuf>,
    /// Of all files.
    pub(super) bytes: u64,
}

/// How many threads are worth while.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// Copies `files`, relative paths, from `root` to `dir`. Those that do not exist, or lie behind a symbolic link, are
/// left out: to git they are deleted.
pub(super) fn copy(root: &Path, dir: &Path, files: Vec<PathBuf>) -> Result<Copied, SnapshotError> {
    let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty()).at("open", path);
    let copier = Copier {
        root,
        source: open(root)?,
        dir,
        dest: open(dir)?,
        reflinks: AtomicBool::new(true),
        next: AtomicUsize::new(0),
    };
    copier.make_directories(&files)?;
    let results: Vec<Result<Batch, SnapshotError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(|| copier.work(&files))).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    });
    let mut missing = BTreeSet::new();
    let mut bytes = 0;
    for result in results {
        let batch = result?;
        bytes += batch.bytes;
        missing.extend(batch.missing);
    }
    let existing = files.into_iter().enumerate().filter(|(i, _)| !missing.contains(i));
    Ok(Copied { files: existing.map(|(_, path)| path).collect(), bytes })
}

struct Copier<'a> {
    root: &'a Path,
    source: OwnedFd,
    dir: &'a Path,
    dest: OwnedFd,
    /// Until the file system has said that it cannot.
    reflinks: AtomicBool,
    /// The first file that no thread has taken.
    next: AtomicUsize,
}

/// What one thread did.
#[derive(Default)]
struct Batch {
    bytes: u64,
    /// The places in the list of files that do not exist.
    missing: Vec<usize>,
}

impl Copier<'_> {
    fn make_directories(&self, files: &[PathBuf]) -> Result<(), SnapshotError> {
        let mut last = Path::new("");
        let mut made = BTreeSet::from([last]);
        for file in files {
            let Some(parent) = file.parent().filter(|&parent| parent != last) else { continue };
            last = parent;
            let mut absent: Vec<&Path> = parent.ancestors().take_while(|dir| !made.contains(dir)).collect();
            while let Some(dir) = absent.pop() {
                rustix::fs::mkdirat(&self.dest, dir, EXECUTABLE_MODE).at("create", &self.dir.join(dir))?;
                made.insert(dir);
            }
        }
        Ok(())
    }

    fn work(&self, files: &[PathBuf]) -> Result<Batch, SnapshotError> {
        let mut batch = Batch::default();
        loop {
            let start = self.next.fetch_add(BATCH_FILES, Ordering::Relaxed);
            let Some(rest) = files.get(start..) else { return Ok(batch) };
            for (i, path) in rest.iter().take(BATCH_FILES).enumerate() {
                match self.copy_file(path) {
                    Ok(Some(bytes)) => batch.bytes += bytes,
                    Ok(None) => batch.missing.push(start + i),
                    Err(error) => {
                        // Nobody needs the rest.
                        self.next.store(files.len(), Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Copies one file or link; its length, or `None` if it does not exist.
    fn copy_file(&self, path: &Path) -> Result<Option<u64>, SnapshotError> {
        // Not to wait for the other end should it have become a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match self.open(path, flags) {
            Ok(file) => file,
            Err(Errno::LOOP) => return self.copy_link(path),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(e).at("open", &self.root.join(path)),
        };
        let stat = rustix::fs::fstat(&file).at("inspect", &self.root.join(path))?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            return Ok(None);
        }
        let mode = if stat.st_mode & OWNER_EXECUTES == 0 { FILE_MODE } else { EXECUTABLE_MODE };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let copy = rustix::fs::openat(&self.dest, path, flags, mode).at("create", &self.dir.join(path))?;
        let (mut file, mut copy) = (File::from(file), File::from(copy));
        let bytes =
            self.contents(&mut file, &mut copy, &stat).at("copy the checkout to", &self.dir.join(path))?;
        // The mode above is subject to the umask.
        rustix::fs::fchmod(&copy, mode).at("set the mode of", &self.dir.join(path))?;
        rustix::fs::futimens(&copy, &times(&stat)).at("set the times of", &self.dir.join(path))?;
        Ok(Some(bytes))
    }

    fn contents(&self, file: &mut File, copy: &mut File, stat: &Stat) -> io::Result<u64> {
        if stat.st_size > 0 && self.reflinks.load(Ordering::Relaxed) {
            match rustix::fs::ioctl_ficlone(&*copy, &*file) {
                Ok(()) => return Ok(stat.st_size.unsigned_abs()),
                // Neither this file system nor these two; what else could be wrong shows when copying.
                Err(_) => self.reflinks.store(false, Ordering::Relaxed),
            }
        }
        if stat.st_size > SMALL_FILE_BYTES {
            // By copy_file_range where that works.
            return io::copy(file, copy);
        }
        let mut buffer = [0; SMALL_FILE_BYTES as usize];
        let mut bytes = 0;
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(bytes);
            }
            copy.write_all(&buffer[..length])?;
            bytes += length as u64;
        }
    }

    fn copy_link(&self, path: &Path) -> Result<Option<u64>, SnapshotError> {
        let link = match self.open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
            Ok(link) => link,
            // A directory on the way is a link.
            Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(e) => return Err(e).at("open", &self.root.join(path)),
        };
        let target =
            rustix::fs::readlinkat(&link, "", Vec::new()).at("read the link", &self.root.join(path))?;
        rustix::fs::symlinkat(target, &self.dest, path).at("create", &self.dir.join(path))?;
        Ok(Some(0))
    }

    fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.source, path, flags, Mode::empty(), resolve)
    }
}

/// The time of modification, for both.
fn times(stat: &Stat) -> Timestamps {
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: modified, last_modification: modified }
}
