//! The standard streams of a supervised process: from it to its log and to attached clients, and from them to it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use jiff::Timestamp;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::log::{Stream, Writer};

/// Bytes taken from a process at once.
const READ_SIZE: usize = 64 * 1024;
/// Bytes held back for one attached client that does not keep up; past it the process has to wait, as with Docker.
const OUTBOX_MAX: usize = 1024 * 1024;
/// Bytes held back for a process that does not read its input.
const INBOX_MAX: usize = 64 * 1024;
/// How long a client that does not keep up is waited for after the process has ended, in milliseconds.
const FAREWELL: i64 = 5_000;

/// All streams of one process.
#[derive(Debug)]
pub(super) struct Relay {
    outputs: Vec<(Stream, OwnedFd)>,
    input: Option<OwnedFd>,
    inbox: VecDeque<u8>,
    log: Option<Writer>,
    attachments: Vec<Attachment>,
    /// The process's input stays open when a client has said all.
    input_stays: bool,
    /// Output to clients carries Docker's eight-byte headers: not with a terminal, which has one stream only.
    framed: bool,
}

#[derive(Debug)]
struct Attachment {
    socket: OwnedFd,
    outbox: VecDeque<u8>,
    output: bool,
    input: bool,
}

/// What became ready.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    Output(usize),
    Input,
    ClientReadable(usize),
    ClientWritable(usize),
}

impl Relay {
    /// Streams over pipes.
    pub(super) fn pipes(
        stdout: OwnedFd,
        stderr: OwnedFd,
        (input, input_stays): (Option<OwnedFd>, bool),
        log: Option<Writer>,
    ) -> io::Result<Self> {
        for fd in [&stdout, &stderr].into_iter().chain(&input) {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        let outputs = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
        Ok(Self {
            outputs,
            input,
            inbox: VecDeque::new(),
            log,
            attachments: Vec::new(),
            input_stays,
            framed: true,
        })
    }

    /// Streams over a terminal's controlling side.
    pub(super) fn terminal(controller: OwnedFd, log: Option<Writer>) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&controller, true)?;
        let input = Some(controller.try_clone()?);
        let outputs = vec![(Stream::Stdout, controller)];
        Ok(Self {
            outputs,
            input,
            inbox: VecDeque::new(),
            log,
            attachments: Vec::new(),
            input_stays: false,
            framed: false,
        })
    }

    /// Adds a client.
    pub(super) fn attach(&mut self, socket: OwnedFd, output: bool, input: bool) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        self.attachments.push(Attachment { socket, outbox: VecDeque::new(), output, input });
        Ok(())
    }

    /// Sets the terminal's size; nothing without a terminal.
    pub(super) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        if let (false, Some((_, controller))) = (self.framed, self.outputs.first()) {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(controller, size)?;
        }
        Ok(())
    }

    /// What to wait for now.
    pub(super) fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags, Ready)> {
        let mut out = Vec::new();
        if self.attachments.iter().all(|a| a.outbox.len() < OUTBOX_MAX) {
            out.extend(
                self.outputs
                    .iter()
                    .enumerate()
                    .map(|(n, (_, fd))| (fd.as_fd(), PollFlags::IN, Ready::Output(n))),
            );
        }
        if let (Some(input), false) = (&self.input, self.inbox.is_empty()) {
            out.push((input.as_fd(), PollFlags::OUT, Ready::Input));
        }
        for (n, attachment) in self.attachments.iter().enumerate() {
            if attachment.input && self.inbox.len() < INBOX_MAX {
                out.push((attachment.socket.as_fd(), PollFlags::IN, Ready::ClientReadable(n)));
            }
            if !attachment.outbox.is_empty() {
                out.push((attachment.socket.as_fd(), PollFlags::OUT, Ready::ClientWritable(n)));
            }
        }
        out
    }

    /// Does what became possible. An index may have shifted since [`Relay::interests`]: nothing here blocks, so the
    /// wrong stream is merely found not to be ready.
    pub(super) fn handle(&mut self, ready: Ready) {
        match ready {
            Ready::Output(n) => self.take_output(n),
            Ready::Input => self.feed(),
            Ready::ClientReadable(n) => self.take_input(n),
            Ready::ClientWritable(n) => self.flush_client(n),
        }
    }

    /// Passes on what is left after the process and all its children have ended.
    pub(super) fn finish(mut self) {
        for n in (0..self.outputs.len()).rev() {
            let mut before = self.outputs.len();
            while self.outputs.len() == before && self.take_output_once(n) {
                before = self.outputs.len();
            }
        }
        if let Some(log) = &mut self.log {
            // A full disk loses the log's end; there is nobody left to tell.
            let _ = log.finish(Timestamp::now());
        }
        for attachment in &mut self.attachments {
            attachment.say_farewell();
        }
    }

    fn take_output(&mut self, n: usize) {
        if n < self.outputs.len() {
            self.take_output_once(n);
        }
    }

    /// Whether there may be more at once.
    fn take_output_once(&mut self, n: usize) -> bool {
        let mut buffer = [0; READ_SIZE];
        let (stream, fd) = &self.outputs[n];
        let stream = *stream;
        match rustix::io::read(fd, &mut buffer) {
            Ok(length @ 1..) => {
                let bytes = &buffer[..length];
                if let Some(log) = &mut self.log {
                    // A log that cannot be written must not stop the container; what is lost is the log's.
                    let _ = log.write(stream, bytes, Timestamp::now());
                }
                for attachment in self.attachments.iter_mut().filter(|a| a.output) {
                    if self.framed {
                        attachment.outbox.extend(frame_header(stream, length));
                    }
                    attachment.outbox.extend(bytes);
                }
                self.flush_all();
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            // End of the pipe, or EIO: the last process has closed the terminal.
            Ok(_) | Err(_) => {
                self.outputs.remove(n);
                false
            }
        }
    }

    fn flush_all(&mut self) {
        for n in (0..self.attachments.len()).rev() {
            self.flush_client(n);
        }
    }

    fn flush_client(&mut self, n: usize) {
        if self.attachments.get_mut(n).is_some_and(|a| a.flush().is_err()) {
            self.attachments.remove(n);
        }
    }

    fn take_input(&mut self, n: usize) {
        let Some(attachment) = self.attachments.get_mut(n) else { return };
        let mut buffer = [0; INBOX_MAX];
        match rustix::net::recv(&attachment.socket, &mut buffer, RecvFlags::empty()).map(|(length, _)| length)
        {
            Ok(length @ 1..) => {
                self.inbox.extend(&buffer[..length]);
                self.feed();
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The client has said all it will; what it hears goes on.
            Ok(_) | Err(_) => {
                attachment.input = false;
                if self.framed && !self.input_stays && self.inbox.is_empty() {
                    self.input = None;
                }
            }
        }
    }

    fn feed(&mut self) {
        let Some(input) = &self.input else {
            self.inbox.clear();
            return;
        };
        while !self.inbox.is_empty() {
            match rustix::io::write(input, self.inbox.as_slices().0) {
                Ok(length) => drop(self.inbox.drain(..length)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.input = None;
                    self.inbox.clear();
                    return;
                }
            }
        }
        if self.framed && !self.input_stays && !self.attachments.iter().any(|a| a.input) {
            self.input = None;
        }
    }
}

impl Attachment {
    fn flush(&mut self) -> Result<(), Errno> {
        while !self.outbox.is_empty() {
            match rustix::net::send(&self.socket, self.outbox.as_slices().0, SendFlags::NOSIGNAL) {
                Ok(length) => drop(self.outbox.drain(..length)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn say_farewell(&mut self) {
        let limit = rustix::event::Timespec { tv_sec: FAREWELL / 1000, tv_nsec: 0 };
        while self.flush().is_ok() && !self.outbox.is_empty() {
            let mut poll = [rustix::event::PollFd::new(&self.socket, PollFlags::OUT)];
            if !matches!(rustix::event::poll(&mut poll, Some(&limit)), Ok(1..) | Err(Errno::INTR)) {
                return;
            }
        }
    }
}

/// Docker's stream header: stream number, three zeros, length in big-endian bytes.
fn frame_header(stream: Stream, length: usize) -> [u8; 8] {
    let mut header = [0; 8];
    header[0] = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    header[4..].copy_from_slice(&(length as u32).to_be_bytes());
    header
}
