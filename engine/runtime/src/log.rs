//! Docker's json-file log: one JSON object a line, `{"log":"text\n","stream":"stdout","time":"RFC 3339"}`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::spec::LogConfig;

/// The longest line in bytes; longer ones become several entries, all but the last without a newline, as Docker's.
const LINE_MAX: usize = 16 * 1024;

/// How much of a log is read at once, in bytes.
const READ_SIZE: usize = 64 * 1024;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, and all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of a log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The text; ends with a newline unless the line was cut or the stream ended.
    pub log: String,
    /// Where it came from.
    pub stream: Stream,
    /// When it was read.
    pub time: Timestamp,
}

/// Reads a log's entries, oldest file first. A damaged line (a crash cut it) is passed over.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut rotated = Vec::new();
    for number in 1.. {
        match fs::read(rotated_path(path, number)) {
            Ok(bytes) => rotated.push(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(e),
        }
    }
    let current = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    for bytes in rotated.into_iter().rev().chain([current]) {
        entries.extend(bytes.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()));
    }
    Ok(entries)
}

/// Reads a log that may still be written. It follows no rotation.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    file: Option<File>,
    /// The beginning of a line whose end is not there yet.
    partial: Vec<u8>,
}

impl Reader {
    /// A reader that stands at the beginning; there may be no file yet.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, partial: Vec::new() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next entries; none if there are no more now. A damaged line (a crash cut it) is passed over.
    pub fn read_more(&mut self) -> io::Result<Vec<Entry>> {
        let file = match &mut self.file {
            Some(file) => file,
            None => match File::open(&self.path) {
                Ok(file) => self.file.insert(file),
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(e),
            },
        };
        let mut entries = Vec::new();
        while entries.is_empty() {
            let before = self.partial.len();
            self.partial.resize(before + READ_SIZE, 0);
            let read = file.read(&mut self.partial[before..]);
            self.partial.truncate(before + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                break;
            }
            let Some(end) = self.partial[before..].iter().rposition(|&b| b == b'\n') else { continue };
            let lines: Vec<u8> = self.partial.drain(..=before + end).collect();
            entries.extend(lines.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()));
        }
        Ok(entries)
    }
}

/// Splits output into lines and writes them to a rotated file.
#[derive(Debug)]
pub(crate) struct Writer {
    config: LogConfig,
    file: File,
    size: u64,
    /// Unfinished lines: standard output's and standard error's.
    partial: [Vec<u8>; 2],
    encoded: Vec<u8>,
}

impl Writer {
    pub(crate) fn open(config: LogConfig) -> io::Result<Self> {
        let file = append_to(&config.path)?;
        let size = file.metadata()?.len();
        Ok(Self { config, file, size, partial: Default::default(), encoded: Vec::new() })
    }

    /// Takes a piece of output; complete lines are written at once, in one write.
    pub(crate) fn write(&mut self, stream: Stream, mut bytes: &[u8], time: Timestamp) -> io::Result<()> {
        let time = time.to_string();
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            self.take(stream, &bytes[..=end], &time);
            bytes = &bytes[end + 1..];
        }
        self.hold(stream, bytes, &time);
        self.flush()
    }

    /// Writes what is left of both streams, which have ended.
    pub(crate) fn finish(&mut self, time: Timestamp) -> io::Result<()> {
        let time = time.to_string();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                self.encode(stream, &rest, &time);
            }
        }
        self.flush()
    }

    fn take(&mut self, stream: Stream, line: &[u8], time: &str) {
        if self.partial[stream as usize].is_empty() && line.len() <= LINE_MAX {
            return self.encode(stream, line, time);
        }
        self.hold(stream, line, time);
        let rest = std::mem::take(&mut self.partial[stream as usize]);
        if !rest.is_empty() {
            self.encode(stream, &rest, time);
        }
    }

    fn hold(&mut self, stream: Stream, bytes: &[u8], time: &str) {
        let mut held = std::mem::take(&mut self.partial[stream as usize]);
        held.extend_from_slice(bytes);
        let mut rest = held.as_slice();
        while rest.len() > LINE_MAX {
            let (full, after) = rest.split_at(LINE_MAX);
            self.encode(stream, full, time);
            rest = after;
        }
        self.partial[stream as usize] = rest.to_vec();
    }

    fn encode(&mut self, stream: Stream, line: &[u8], time: &str) {
        self.encoded.extend_from_slice(b"{\"log\":");
        // Writing to a vector cannot fail, and a string always serialises.
        let _ = serde_json::to_writer(&mut self.encoded, &String::from_utf8_lossy(line));
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let _ = writeln!(self.encoded, ",\"stream\":\"{name}\",\"time\":\"{time}\"}}");
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.encoded.is_empty() {
            return Ok(());
        }
        if self.config.max_size.is_some_and(|max| self.size >= max) {
            self.rotate()?;
        }
        let result = self.file.write_all(&self.encoded);
        self.size += self.encoded.len() as u64;
        self.encoded.clear();
        result
    }

    fn rotate(&mut self) -> io::Result<()> {
        let oldest = self.config.max_files.saturating_sub(1);
        for number in (1..oldest).rev() {
            ignore_missing(fs::rename(
                rotated_path(&self.config.path, number),
                rotated_path(&self.config.path, number + 1),
            ))?;
        }
        if oldest > 0 {
            fs::rename(&self.config.path, rotated_path(&self.config.path, 1))?;
        } else {
            fs::remove_file(&self.config.path)?;
        }
        self.file = append_to(&self.config.path)?;
        self.size = 0;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn rotated_path(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(dir: &Path, max_size: Option<u64>, max_files: u32) -> Writer {
        Writer::open(LogConfig { path: dir.join("log.json"), max_size, max_files }).unwrap()
    }

    fn texts(dir: &Path) -> Vec<(Stream, String)> {
        read(&dir.join("log.json")).unwrap().into_iter().map(|e| (e.stream, e.log)).collect()
    }

    #[test]
    fn joins_lines_across_pieces_and_keeps_streams_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), None, 1);
        let time = Timestamp::UNIX_EPOCH;
        log.write(Stream::Stdout, b"one\ntw", time).unwrap();
        log.write(Stream::Stderr, b"err \"q\"\n", time).unwrap();
        log.write(Stream::Stdout, b"o\n\xff last", time).unwrap();
        log.finish(time).unwrap();
        let expected = [
            (Stream::Stdout, "one\n"),
            (Stream::Stderr, "err \"q\"\n"),
            (Stream::Stdout, "two\n"),
            (Stream::Stdout, "\u{fffd} last"),
        ];
        assert_eq!(texts(dir.path()), expected.map(|(s, t)| (s, t.to_owned())));
        let raw = fs::read_to_string(dir.path().join("log.json")).unwrap();
        assert!(
            raw.starts_with(r#"{"log":"one\n","stream":"stdout","time":"1970-01-01T00:00:00Z"}"#),
            "{raw}"
        );
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(dir.path().join("log.json"));
        assert_eq!(reader.read_more().unwrap(), []);
        let mut log = writer(dir.path(), None, 1);
        let mut expect = |log: &mut Writer, texts: &[&str]| {
            log.flush().unwrap();
            let read: Vec<String> = reader.read_more().unwrap().into_iter().map(|e| e.log).collect();
            assert_eq!(read, texts);
        };
        log.write(Stream::Stdout, b"one\ntwo\n", Timestamp::UNIX_EPOCH).unwrap();
        expect(&mut log, &["one\n", "two\n"]);
        expect(&mut log, &[]);
        fs::OpenOptions::new()
            .append(true)
            .open(dir.path().join("log.json"))
            .unwrap()
            .write_all(b"{\"log\":")
            .unwrap();
        expect(&mut log, &[]);
        log.file
            .write_all(b"\"three\\n\",\"stream\":\"stderr\",\"time\":\"1970-01-01T00:00:00Z\"}\n")
            .unwrap();
        expect(&mut log, &["three\n"]);
    }

    #[test]
    fn cuts_long_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), None, 1);
        log.write(Stream::Stdout, &[b'x'; LINE_MAX + 5], Timestamp::UNIX_EPOCH).unwrap();
        log.write(Stream::Stdout, b"\n", Timestamp::UNIX_EPOCH).unwrap();
        let lengths: Vec<usize> = texts(dir.path()).iter().map(|(_, text)| text.len()).collect();
        assert_eq!(lengths, [LINE_MAX, 6]);
    }

    #[test]
    fn rotates_and_reads_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = writer(dir.path(), Some(100), 3);
        for n in 0..10 {
            log.write(Stream::Stdout, format!("line {n}\n").as_bytes(), Timestamp::UNIX_EPOCH).unwrap();
        }
        let kept: Vec<String> = texts(dir.path()).into_iter().map(|(_, text)| text).collect();
        assert_eq!(kept.last().unwrap(), "line 9\n");
        assert!(kept.len() < 10 && kept.windows(2).all(|pair| pair[0] < pair[1]), "{kept:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
