use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The length of a frame's header: the stream's number, three zeros, the length in big-endian bytes.
const HEADER: usize = 8;
/// A frame of what went wrong while the daemon was already streaming.
const SYSTEM_ERROR: u8 = 3;

/// Takes frames apart as they come, and prints what is in them.
#[derive(Debug)]
pub(crate) struct Demux {
    raw: bool,
    header: Vec<u8>,
    stream: u8,
    left: usize,
    /// What goes to one stream in one write.
    pending: Vec<u8>,
}

impl Demux {
    /// `raw` output has no frames.
    pub(crate) fn new(raw: bool) -> Self {
        Self { raw, header: Vec::with_capacity(HEADER), stream: 1, left: 0, pending: Vec::new() }
    }

    /// Prints what these bytes complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.feed_to(bytes, &mut print)
    }

    fn feed_to(
        &mut self,
        mut bytes: &[u8],
        write: &mut dyn FnMut(u8, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.raw {
            return write(1, bytes);
        }
        while !bytes.is_empty() {
            if self.left == 0 {
                let taken = bytes.len().min(HEADER - self.header.len());
                self.header.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                if let Ok([stream, _, _, _, length @ ..]) = <[u8; HEADER]>::try_from(self.header.as_slice()) {
                    self.header.clear();
                    // Frames of one stream that come together, often lines, are written together.
                    if stream != self.stream {
                        self.flush(write)?;
                    }
                    (self.stream, self.left) = (stream, u32::from_be_bytes(length) as usize);
                }
                continue;
            }
            let taken = bytes.len().min(self.left);
            self.pending.extend_from_slice(&bytes[..taken]);
            self.left -= taken;
            bytes = &bytes[taken..];
        }
        self.flush(write)
    }

    fn flush(&mut self, write: &mut dyn FnMut(u8, &[u8]) -> io::Result<()>) -> io::Result<()> {
        if !self.pending.is_empty() {
            write(self.stream, &self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

fn print(stream: u8, bytes: &[u8]) -> io::Result<()> {
    match stream {
        2 => write_all(io::stderr().as_fd(), bytes),
        SYSTEM_ERROR => Err(io::Error::other(String::from_utf8_lossy(bytes).into_owned())),
        _ => write_all(io::stdout().as_fd(), bytes),
    }
}

/// Writes without a buffer: what the process says appears when it says it.
pub(crate) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(rustix::io::Errno::INTR) => {}
            // Someone else has made the file non-blocking, as ssh does.
            Err(rustix::io::Errno::AGAIN) => {
                poll(&mut [PollFd::new(&to, PollFlags::OUT)], None)?;
            }
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart_wherever_they_are_cut() {
        let frame = |stream: u8, text: &str| {
            let mut frame = vec![stream, 0, 0, 0];
            frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            frame.extend(text.bytes());
            frame
        };
        let all = [frame(1, "one "), frame(1, ""), frame(2, "error"), frame(1, "two")].concat();
        for cut in 0..=all.len() {
            let (mut demux, mut said) = (Demux::new(false), [String::new(), String::new()]);
            let mut write = |stream: u8, bytes: &[u8]| {
                said[usize::from(stream) - 1].push_str(std::str::from_utf8(bytes).unwrap());
                Ok(())
            };
            demux.feed_to(&all[..cut], &mut write).unwrap();
            demux.feed_to(&all[cut..], &mut write).unwrap();
            assert_eq!(said, ["one two", "error"], "cut at {cut}");
        }
    }

    #[test]
    fn frames_of_one_stream_are_written_at_once() {
        let mut writes = 0;
        let all = [1, 0, 0, 0, 0, 0, 0, 1, b'a'].repeat(100);
        Demux::new(false)
            .feed_to(&all, &mut |_, bytes| {
                writes += 1;
                assert_eq!(bytes.len(), 100);
                Ok(())
            })
            .unwrap();
        assert_eq!(writes, 1);
    }
}
