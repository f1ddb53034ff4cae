use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use memchr::memchr;

use super::forward::Forwarder;
use super::{Forward, Stream, rotated_path};
use crate::error::{Context, SetupError, Step, errno};
use crate::spec::LogConfig;

/// The longest line in bytes; longer ones become several entries, all but the last without a newline, as Docker's.
pub(super) const LINE_MAX: usize = 16 * 1024;

/// Splits output into lines and writes them to a rotated file, and wherever else they are to go.
#[derive(Debug)]
pub(crate) struct Writer {
    config: LogConfig,
    file: File,
    size: u64,
    /// Unfinished lines: standard output's and standard error's.
    partial: [Vec<u8>; 2],
    encoded: Vec<u8>,
    /// What stands in every entry between stream and time.
    attrs: String,
    forwarder: Option<Forwarder>,
}

impl Writer {
    pub(crate) fn open(config: LogConfig) -> Result<Self, SetupError> {
        let unreachable =
            |to: &Forward, error| SetupError::LogDestination { to: to.to_string(), errno: errno(&error) };
        let forwarder = config.forward.as_ref().map(|to| Forwarder::open(to).map_err(|e| unreachable(to, e)));
        let forwarder = forwarder.transpose()?;
        let file = append_to(&config.path).step_at(Step::Log, &config.path)?;
        let size = file.metadata().step_at(Step::Log, &config.path)?.len();
        let attrs = match config.attrs.is_empty() {
            true => String::new(),
            // A map of strings always serialises.
            false => format!("\"attrs\":{},", serde_json::to_string(&config.attrs).unwrap_or_default()),
        };
        let (partial, encoded) = (Default::default(), Vec::new());
        Ok(Self { config, file, size, partial, encoded, attrs, forwarder })
    }

    /// Takes a piece of output; complete lines are written at once, in one write.
    pub(crate) fn write(&mut self, stream: Stream, mut bytes: &[u8], time: Timestamp) -> io::Result<()> {
        let tail = self.tail(stream, time);
        while let Some(end) = memchr(b'\n', bytes) {
            self.take(stream, &bytes[..=end], &tail);
            bytes = &bytes[end + 1..];
        }
        self.hold(stream, bytes, &tail);
        self.flush()
    }

    /// Writes what is left of both streams, which have ended.
    pub(crate) fn finish(&mut self, time: Timestamp) -> io::Result<()> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.partial[stream as usize]);
            if !rest.is_empty() {
                let tail = self.tail(stream, time);
                self.encode(stream, &rest, &tail);
            }
        }
        self.flush()
    }

    /// What ends every entry of a stream at a time.
    fn tail(&self, stream: Stream, time: Timestamp) -> Vec<u8> {
        format!("\",\"stream\":\"{}\",{}\"time\":\"{time:.9}\"}}\n", stream.name(), self.attrs).into_bytes()
    }

    fn take(&mut self, stream: Stream, line: &[u8], tail: &[u8]) {
        if self.partial[stream as usize].is_empty() && line.len() <= LINE_MAX {
            return self.encode(stream, line, tail);
        }
        self.hold(stream, line, tail);
        let rest = std::mem::take(&mut self.partial[stream as usize]);
        if !rest.is_empty() {
            self.encode(stream, &rest, tail);
        }
    }

    fn hold(&mut self, stream: Stream, bytes: &[u8], tail: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut held = std::mem::take(&mut self.partial[stream as usize]);
        held.extend_from_slice(bytes);
        let mut rest = held.as_slice();
        while rest.len() > LINE_MAX {
            let (full, after) = rest.split_at(LINE_MAX);
            self.encode(stream, full, tail);
            rest = after;
        }
        self.partial[stream as usize] = rest.to_vec();
    }

    fn encode(&mut self, stream: Stream, line: &[u8], tail: &[u8]) {
        if let Some(forwarder) = &mut self.forwarder {
            forwarder.send(stream, line.strip_suffix(b"\n").unwrap_or(line));
        }
        self.encoded.extend_from_slice(br#"{"log":""#);
        let (text, newline) = match line.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (line, false),
        };
        if is_plain(text) {
            self.encoded.extend_from_slice(text);
        } else {
            // Writing to a vector cannot fail, and a string always serialises. Its quotes stand there already.
            let start = self.encoded.len() - 1;
            self.encoded.truncate(start);
            let _ = serde_json::to_writer(&mut self.encoded, &String::from_utf8_lossy(text));
            self.encoded.pop();
        }
        if newline {
            self.encoded.extend_from_slice(br"\n");
        }
        self.encoded.extend_from_slice(tail);
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

/// Whether a text is the same as a JSON string's content. Looks at all of it, so that the compiler can look at many
/// bytes at once.
fn is_plain(text: &[u8]) -> bool {
    let special = |&byte: &u8| !(0x20..0x80).contains(&byte) | (byte == b'"') | (byte == b'\\');
    !text.iter().fold(false, |found, byte| found | special(byte))
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
