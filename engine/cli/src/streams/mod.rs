//! A process's streams on this side of the connection: standard input with the keys that detach, Docker's frames
//! taken apart, this terminal in raw mode and its size, signals passed on.

mod demux;
mod detach;
mod signals;
mod terminal;

use std::io::{self, Read};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{Receiver, channel};

pub(crate) use demux::{Demux, write_all};
pub(crate) use detach::{DEFAULT_DETACH_KEYS, DetachKeys};
pub(crate) use signals::{follow_size, forward};
pub(crate) use terminal::{RawMode, size, stdin_is_terminal, stdout_is_terminal};

/// Bytes copied at once.
const COPY_SIZE: usize = 64 * 1024;
/// Pieces of standard input that wait to be sent.
const PIECES_MAX: usize = 4;

/// How it came that a process's streams are not here any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// All output is there.
    Closed,
    /// The user left.
    Detached,
    /// Nobody reads what is printed.
    Unread,
}

/// What joins a connection.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Whether this process's standard input goes there.
    pub(crate) stdin: bool,
    /// Whether the output has no frames, since a terminal has but one stream.
    pub(crate) terminal: bool,
    /// The keys that detach, where there are any.
    pub(crate) detach_keys: Option<DetachKeys>,
}

/// Copies between this process's streams and a connection until one of them ends.
pub(crate) async fn join(connection: impl AsyncRead + AsyncWrite, joined: Joined) -> io::Result<End> {
    let (reader, writer) = tokio::io::split(connection);
    let input = async {
        if joined.stdin {
            return copy_input(writer, joined.detach_keys).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        end = copy_output(reader, joined.terminal) => end,
        end = input => Ok(end),
    }
}

async fn copy_output(mut reader: impl AsyncRead + Unpin, terminal: bool) -> io::Result<End> {
    let mut demux = Demux::new(terminal);
    let mut buffer = vec![0; COPY_SIZE];
    loop {
        let length = match reader.read(&mut buffer).await {
            // A daemon that is killed resets it; the exit code is asked for elsewhere.
            Ok(0) => return Ok(End::Closed),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(End::Closed),
            length => length?,
        };
        match demux.feed(&buffer[..length]) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Unread),
            fed => fed?,
        }
    }
}

/// Returns when the user detaches, only.
async fn copy_input(mut writer: impl AsyncWrite + Unpin, mut keys: Option<DetachKeys>) -> End {
    let mut pieces = stdin_pieces();
    while let Some(piece) = pieces.recv().await {
        let (piece, detached) = match &mut keys {
            Some(keys) => keys.filter(&piece),
            None => (piece, false),
        };
        // A process that does not read any more is no reason to stop hearing it.
        if writer.write_all(&piece).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        if detached {
            return End::Detached;
        }
    }
    let _ = writer.shutdown().await; // it may have ended
    std::future::pending().await
}

/// Reads standard input in a thread of its own, which nobody needs to wait for.
fn stdin_pieces() -> Receiver<Bytes> {
    let (sender, receiver) = channel(PIECES_MAX);
    std::thread::spawn(move || {
        let mut buffer = vec![0; COPY_SIZE];
        let mut stdin = io::stdin().lock();
        while let Ok(length @ 1..) = stdin.read(&mut buffer) {
            if sender.blocking_send(Bytes::copy_from_slice(&buffer[..length])).is_err() {
                return;
            }
        }
    });
    receiver
}
