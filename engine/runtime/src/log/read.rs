use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use memchr::memrchr_iter;

use super::line::Lines;
use super::rotated_path;

/// How much of a log is read at once, in bytes.
const READ_SIZE: usize = 256 * 1024;

/// Reads a log that may still be written, and rotated.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
}

impl Reader {
    /// A reader that stands at the oldest entry; there may be no file yet.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let file = oldest(&path)?;
        Ok(Self { path, file, partial: Vec::new() })
    }

    /// A reader that stands before the last `count` entries of what has been written so far.
    pub fn open_at_last(path: impl Into<PathBuf>, count: u64) -> io::Result<Self> {
        let path = path.into();
        let mut left = count;
        for number in 0.. {
            let name = if number == 0 { path.clone() } else { rotated_path(&path, number) };
            let Some(mut file) = open(&name)? else { break };
            if let Some(start) = before_last(&file, &mut left)? {
                file.seek(SeekFrom::Start(start))?;
                return Ok(Self { path, file: Some(file), partial: Vec::new() });
            }
        }
        Self::open(path)
    }

    /// The file that is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next entries; none if there are no more now.
    pub fn read_more(&mut self) -> io::Result<Lines> {
        loop {
            let Some(file) = &mut self.file else {
                self.file = oldest(&self.path)?;
                if self.file.is_none() {
                    return Ok(Lines::default());
                }
                continue;
            };
            if fill(file, &mut self.partial)? == 0 {
                // What was written last before the file was put aside is read before the next one.
                if !is_put_aside(file, &self.path)? || fill(file, &mut self.partial)? == 0 && !self.go_on()? {
                    return Ok(Lines::default());
                }
            }
            let lines = Lines::take(&mut self.partial);
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
    }

    /// Goes on with the file that was begun when this one was put aside; false if it is not there yet.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        loop {
            let place = place(file, &self.path)?;
            let next = match place {
                // So much was written meanwhile that it is gone.
                None => oldest(&self.path)?,
                Some(1) => open(&self.path)?,
                Some(number) => open(&rotated_path(&self.path, number - 1))?,
            };
            // Unless all was put aside once more in between.
            if self::place(file, &self.path)? == place {
                self.partial.clear(); // a line that a crash has cut
                let there = next.is_some();
                self.file = next.or(self.file.take());
                return Ok(there);
            }
        }
    }
}

/// Reads on; how many bytes there were.
fn fill(file: &mut File, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let before = bytes.len();
    bytes.resize(before + READ_SIZE, 0);
    let read = file.read(&mut bytes[before..]);
    bytes.truncate(before + *read.as_ref().unwrap_or(&0));
    read
}

/// Where the last `left` entries of a file begin; `None` if it has not as many, which are taken off `left` then.
fn before_last(file: &File, left: &mut u64) -> io::Result<Option<u64>> {
    let mut end = file.metadata()?.len();
    // The newline that ends the last entry begins no other.
    let mut seen_last = false;
    let mut buffer = vec![0; READ_SIZE];
    while end > 0 {
        let length = READ_SIZE.min(usize::try_from(end).unwrap_or(READ_SIZE));
        let start = end - length as u64;
        file.read_exact_at(&mut buffer[..length], start)?;
        for at in memrchr_iter(b'\n', &buffer[..length]) {
            if std::mem::replace(&mut seen_last, true) {
                *left = left.saturating_sub(1);
            }
            if *left == 0 {
                return Ok(Some(start + at as u64 + 1));
            }
        }
        end = start;
    }
    *left = left.saturating_sub(u64::from(seen_last));
    Ok((*left == 0).then_some(0))
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The oldest file, of those that were put aside and the one that is written.
fn oldest(path: &Path) -> io::Result<Option<File>> {
    loop {
        let count = (1..).take_while(|&number| rotated_path(path, number).exists()).count();
        let number = u32::try_from(count).unwrap_or(u32::MAX);
        let file = open(&if number == 0 { path.to_owned() } else { rotated_path(path, number) })?;
        // Unless one more was put aside in between.
        if !rotated_path(path, number + 1).exists() {
            return Ok(file);
        }
    }
}

fn is_put_aside(file: &File, path: &Path) -> io::Result<bool> {
    Ok(!is_it(&file.metadata()?, path)?)
}

/// Which of the files that were put aside this is.
fn place(file: &File, path: &Path) -> io::Result<Option<u32>> {
    let own = file.metadata()?;
    for number in 1.. {
        let name = rotated_path(path, number);
        if !name.exists() {
            break;
        }
        if is_it(&own, &name)? {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn is_it(own: &std::fs::Metadata, path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(other) => Ok((own.dev(), own.ino()) == (other.dev(), other.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
