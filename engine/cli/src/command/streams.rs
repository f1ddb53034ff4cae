//! A foreground process's streams: this terminal in raw mode, or Docker's frames taken apart.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use rustix::termios::{OptionalActions, Termios};

/// Bytes copied at once.
const COPY_SIZE: usize = 64 * 1024;

/// Copies between this process's streams and a container's.
#[derive(Debug)]
pub(crate) struct Streams {
    output: JoinHandle<std::io::Result<()>>,
    raw: Option<RawMode>,
}

impl Streams {
    /// Begins to copy; the socket's other end goes to the engine.
    pub(crate) fn attach(stdin: bool, terminal: bool) -> anyhow::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        let raw = if terminal { RawMode::enter()? } else { None };
        let reader = ours.try_clone()?;
        let output =
            std::thread::spawn(move || if terminal { copy_raw(reader) } else { copy_frames(reader) });
        if stdin {
            let writer = ours.try_clone()?;
            std::thread::spawn(move || copy_input(writer));
        }
        Ok((Self { output, raw }, theirs.into()))
    }

    /// Waits until all output is there.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let copied = self.output.join();
        drop(self.raw);
        match copied {
            // Nobody reads what we print any more; the container's exit code still counts.
            Ok(Err(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Ok(result) => Ok(result?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// The size of this terminal: rows and columns.
pub(crate) fn terminal_size() -> Option<(u16, u16)> {
    rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| (size.ws_row, size.ws_col))
}

fn copy_input(mut socket: UnixStream) {
    let mut buffer = [0; COPY_SIZE];
    let mut stdin = std::io::stdin().lock();
    while let Ok(length @ 1..) = stdin.read(&mut buffer) {
        if socket.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
    let _ = socket.shutdown(std::net::Shutdown::Write); // the container may have ended
}

fn copy_raw(mut socket: UnixStream) -> std::io::Result<()> {
    let mut buffer = [0; COPY_SIZE];
    let mut stdout = std::io::stdout().lock();
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(()),
            length => {
                stdout.write_all(&buffer[..length])?;
                stdout.flush()?;
            }
        }
    }
}

/// Each frame has a header of eight bytes: the stream's number, three zeros, the length in big-endian bytes.
fn copy_frames(mut socket: UnixStream) -> std::io::Result<()> {
    let mut header = [0; 8];
    let mut payload = Vec::new();
    loop {
        match socket.read_exact(&mut header) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let [stream, _, _, _, length @ ..] = header;
        payload.resize(u32::from_be_bytes(length) as usize, 0);
        socket.read_exact(&mut payload)?;
        if stream == 2 {
            std::io::stderr().write_all(&payload)?;
        } else {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&payload)?;
            stdout.flush()?;
        }
    }
}

/// The terminal as it was, to be given back.
#[derive(Debug)]
struct RawMode(Termios);

impl RawMode {
    fn enter() -> anyhow::Result<Option<Self>> {
        let stdin = std::io::stdin();
        if !rustix::termios::isatty(stdin.as_fd()) {
            return Ok(None);
        }
        let before = rustix::termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}
