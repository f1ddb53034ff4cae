//! Copying many files, by several threads, sharing their blocks where the file system can.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::index::FileStat;
use super::{At, SnapshotError};

/// The most threads that copy; more only wait for the file system's locks.
const MAX_THREADS: usize = 8;
/// How many files a thread takes at once.
const BATCH_FILES: usize = 64;
/// Up to this length reading and writing takes fewer system calls than letting the kernel copy.
const SMALL_FILE_BYTES: i64 = 16 * 1024;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// The modes that git knows.
pub(super) const EXECUTABLE_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
/// What makes a file executable to git.
const OWNER_EXECUTES: u32 = 0o100;

/// How many threads are worth while.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// Does something with each number below `count` by several threads; the results in order, or one of the errors, after
/// which the rest is not begun.
pub(super) fn in_parallel<T: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, SnapshotError> + Sync,
) -> Result<Vec<T>, SnapshotError> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut batches = Vec::new();
        loop {
            let start = next.fetch_add(BATCH_FILES, Ordering::Relaxed);
            if start >= count {
                return Ok(batches);
            }
            let batch: Result<Vec<T>, _> = (start..count.min(start + BATCH_FILES)).map(&work).collect();
            // Nobody needs the rest of what failed.
            batches.push((start, batch.inspect_err(|_| next.store(count, Ordering::Relaxed))?));
        }
    };
    let mut batches: Vec<(usize, Vec<T>)> = Vec::new();
    let results: Vec<Result<_, SnapshotError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads().min(count)).map(|_| scope.spawn(run)).collect();
        let join = |worker: std::thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().map(join).collect()
    });
    for result in results {
        batches.extend(result?);
    }
    batches.sort_unstable_by_key(|(start, _)| *start);
    Ok(batches.into_iter().flat_map(|(_, batch)| batch).collect())
}

/// Copies files of one directory tree to another.
pub(super) struct Copier<'a> {
    root: &'a Path,
    source: OwnedFd,
    dir: &'a Path,
    dest: OwnedFd,
    /// Until the file system has said that it cannot.
    reflinks: AtomicBool,
    /// Whether this process's umask takes bits of the modes away.
    masked: bool,
}

impl<'a> Copier<'a> {
    /// From `root` to `dir`, which both exist.
    pub(super) fn open(root: &'a Path, dir: &'a Path) -> Result<Self, SnapshotError> {
        let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty()).at("open", path);
        Ok(Self {
            root,
            source: open(root)?,
            dir,
            dest: open(dir)?,
            reflinks: AtomicBool::new(true),
            masked: umask().is_none_or(|mask| mask.intersects(EXECUTABLE_MODE)),
        })
    }

    /// What is at `path` in the source, if it is a file or a link.
    pub(super) fn inspect(&self, path: &Path) -> Result<Option<FileStat>, SnapshotError> {
        match rustix::fs::statat(&self.source, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let kind = FileType::from_raw_mode(stat.st_mode);
                Ok((kind.is_file() || kind.is_symlink()).then(|| FileStat::new(&stat)))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(e).at("inspect", &self.root.join(path)),
        }
    }

    /// Makes a directory, unless it is there.
    pub(super) fn make_directory(&self, path: &Path) -> Result<(), SnapshotError> {
        match rustix::fs::mkdirat(&self.dest, path, EXECUTABLE_MODE) {
            Err(Errno::EXIST) => Ok(()),
            Ok(()) if self.masked => {
                let set = rustix::fs::chmodat(&self.dest, path, EXECUTABLE_MODE, AtFlags::empty());
                set.at("set the mode of", &self.dir.join(path))
            }
            made => made.at("create", &self.dir.join(path)),
        }
    }

    /// Removes a file or link of the copy; one that is gone is as good.
    pub(super) fn remove(&self, path: &Path) -> Result<(), SnapshotError> {
        match rustix::fs::unlinkat(&self.dest, path, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed.at("remove", &self.dir.join(path)),
        }
    }

    /// Removes a directory of the copy and those above it, as far as they are empty.
    pub(super) fn remove_empty(&self, path: &Path) -> Result<(), SnapshotError> {
        for dir in path.ancestors().take_while(|dir| !dir.as_os_str().is_empty()) {
            match rustix::fs::unlinkat(&self.dest, dir, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => break,
                Err(e) => return Err(e).at("remove", &self.dir.join(dir)),
            }
        }
        Ok(())
    }

    /// Copies one file or link, over the copy that there may be; what it was before it was read, or `None` if it does
    /// not exist, or lies behind a symbolic link: to git it is deleted.
    pub(super) fn copy(&self, path: &Path) -> Result<Option<FileStat>, SnapshotError> {
        // Not to wait for the other end should it have become a pipe.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match self.open_source(path, flags) {
            Ok(file) => file,
            Err(Errno::LOOP) => return self.copy_link(path),
            Err(Errno::NOENT | Errno::NOTDIR) => return self.remove(path).map(|()| None),
            Err(e) => return Err(e).at("open", &self.root.join(path)),
        };
        let stat = rustix::fs::fstat(&file).at("inspect", &self.root.join(path))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return self.remove(path).map(|()| None);
        }
        let mode = if stat.st_mode & OWNER_EXECUTES == 0 { FILE_MODE } else { EXECUTABLE_MODE };
        let (copy, is_new) = self.open_copy(path, mode)?;
        let (mut file, mut copy) = (File::from(file), File::from(copy));
        let length =
            self.contents(&mut file, &mut copy, &stat).at("copy the checkout to", &self.dir.join(path))?;
        if !is_new {
            copy.set_len(length).at("shorten", &self.dir.join(path))?;
        }
        if self.masked || !is_new {
            rustix::fs::fchmod(&copy, mode).at("set the mode of", &self.dir.join(path))?;
        }
        rustix::fs::futimens(&copy, &times(&stat)).at("set the times of", &self.dir.join(path))?;
        Ok(Some(FileStat::new(&stat)))
    }

    /// Opens the copy of a file for writing, and says whether it is new. An old one is written over, not replaced: ext4 looks at
    /// each inode freed in the last minute before it takes another, so that removing and making thousands of files
    /// takes seconds.
    fn open_copy(&self, path: &Path, mode: Mode) -> Result<(OwnedFd, bool), SnapshotError> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let make = || rustix::fs::openat(&self.dest, path, flags | OFlags::CREATE | OFlags::EXCL, mode);
        let opened = match make() {
            Err(Errno::EXIST) => match rustix::fs::openat(&self.dest, path, flags, Mode::empty()) {
                Err(Errno::LOOP) => {
                    self.remove(path)?;
                    make().map(|copy| (copy, true))
                }
                old => old.map(|copy| (copy, false)),
            },
            made => made.map(|copy| (copy, true)),
        };
        opened.at("create", &self.dir.join(path))
    }

    /// Copies what a file has; how much that was.
    fn contents(&self, file: &mut File, copy: &mut File, stat: &Stat) -> io::Result<u64> {
        if stat.st_size > 0 && self.reflinks.load(Ordering::Relaxed) {
            // What is longer than the original would stay so.
            copy.set_len(0)?;
            match rustix::fs::ioctl_ficlone(&*copy, &*file) {
                Ok(()) => return Ok(copy.metadata()?.len()),
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
            copy.write_all(&buffer[..length])?;
            bytes += length as u64;
            // Only at its end does a file give less than it is asked for.
            if length < buffer.len() {
                return Ok(bytes);
            }
        }
    }

    fn copy_link(&self, path: &Path) -> Result<Option<FileStat>, SnapshotError> {
        let link = match self.open_source(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
            Ok(link) => link,
            // A directory on the way is a link.
            Err(Errno::LOOP | Errno::NOENT | Errno::NOTDIR) => return self.remove(path).map(|()| None),
            Err(e) => return Err(e).at("open", &self.root.join(path)),
        };
        let stat = rustix::fs::fstat(&link).at("inspect", &self.root.join(path))?;
        let target =
            rustix::fs::readlinkat(&link, "", Vec::new()).at("read the link", &self.root.join(path))?;
        self.remove(path)?;
        rustix::fs::symlinkat(target, &self.dest, path).at("create", &self.dir.join(path))?;
        Ok(Some(FileStat::new(&stat)))
    }

    fn open_source(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.source, path, flags, Mode::empty(), resolve)
    }
}

/// This process's umask: to ask for it in any other way is to change it.
fn umask() -> Option<Mode> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(mask.trim(), 8).ok().map(Mode::from_raw_mode)
}

/// The time of modification, for both.
fn times(stat: &Stat) -> Timestamps {
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    Timestamps { last_access: modified, last_modification: modified }
}
