//! Connections that carry a process's streams, and bodies that come as they are made.

mod detach;
mod history;
mod websocket;

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::runtime::log::Stream;
use futures::stream::unfold;
use futures::{StreamExt as _, TryStreamExt as _};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{oneshot, watch};

use crate::parse::Version;

pub(crate) use detach::DetachKeys;
pub(crate) use history::{History, Selection};
pub(crate) use websocket::speak;

/// How long a client may take to read an answer's head, how often it is looked at first, and the pause then.
const HEAD: Duration = Duration::from_millis(100);
const LOOKS: u32 = 200;
const HEAD_PAUSE: Duration = Duration::from_millis(1);
/// Bytes copied at once.
const COPY_SIZE: usize = 32 * 1024;
/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 8;
/// One stream without frames.
const RAW: &str = "application/vnd.docker.raw-stream";
/// Several streams in frames.
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// How a client and a process are connected.
#[derive(Debug)]
pub(crate) struct Joined {
    /// What is told first.
    pub(crate) history: Option<History>,
    /// The process's side; none if there is nothing but history.
    pub(crate) process: Option<UnixStream>,
    /// What the client sends is for the process.
    pub(crate) stdin: bool,
    /// The streams that the client wants, of those that come in frames.
    pub(crate) wanted: Wanted,
    pub(crate) frames: Frames,
    /// How the client may leave.
    pub(crate) detach: Option<Detach>,
    /// The connection ends no sooner than this has changed.
    pub(crate) ended: Option<watch::Receiver<bool>>,
}

/// What becomes of the frames of a process's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frames {
    /// There are none.
    None,
    /// There are none, and the client is told in frames of standard output.
    Added,
    /// The client gets them.
    Kept,
    /// The client gets what is in them.
    Stripped,
}

/// How a client leaves a process alone.
#[derive(Debug)]
pub(crate) struct Detach {
    pub(crate) keys: DetachKeys,
    /// What it is told then.
    pub(crate) text: &'static str,
    /// Who wants to know.
    pub(crate) told: oneshot::Sender<()>,
}

/// Which output a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Wanted {
    pub(crate) fn has(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

/// What the content of a process's output is called.
pub(crate) fn content_type(terminal: bool, version: Version) -> &'static str {
    if terminal || version < Version(1, 42) { RAW } else { MULTIPLEXED }
}

/// Gives the connection over to a client and a process. A client that did not ask for that hears the process only.
pub(crate) fn hijack(upgrade: Option<OnUpgrade>, content_type: &'static str, joined: Joined) -> Response {
    let Some(upgrade) = upgrade else {
        return ([(header::CONTENT_TYPE, content_type)], joined.body()).into_response();
    };
    tokio::spawn(async move {
        match upgrade.await {
            // A connection by a Unix socket is ours from here on, and what came with the request.
            Ok(client) => match downcast::<TokioIo<UnixStream>>(client) {
                Ok(parts) => {
                    let client = parts.io.into_inner();
                    head_is_read(&client).await;
                    let (client_in, client_out) = client.into_split();
                    let before = io::Cursor::new(parts.read_buf);
                    joined.run(before.chain(client_in), client_out).await;
                }
                Err(client) => {
                    let (client_in, client_out) = tokio::io::split(TokioIo::new(client));
                    joined.run(client_in, client_out).await;
                }
            },
            Err(error) => tracing::debug!(%error, "a client left before it was attached"),
        }
    });
    let headers =
        [(header::CONTENT_TYPE, content_type), (header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Waits until a client has read the answer's head. docker-py reads it through a buffer that it throws away, with the
/// beginning of the output if that is there by then: Docker is too slow for that to happen.
async fn head_is_read(client: &UnixStream) {
    let (started, mut looks) = (Instant::now(), 0);
    while engine::unread_by_peer(client.as_fd()).is_ok_and(|bytes| bytes > 0) && started.elapsed() < HEAD {
        looks += 1;
        // It takes most clients some microseconds; a timer, a millisecond at least.
        if looks < LOOKS {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(HEAD_PAUSE).await;
        }
    }
}

impl Joined {
    async fn run(self, client_in: impl AsyncRead + Unpin, mut client_out: impl AsyncWrite + Unpin) {
        let Self { history, process, stdin, wanted, frames, detach, ended } = self;
        if let Some(mut history) = history {
            while let Some(Ok(bytes)) = history.next().await {
                if client_out.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        }
        let Some(process) = process else {
            let _ = client_out.shutdown().await; // the client may be gone
            return;
        };
        let (mut output, process_in) = process.into_split();
        let all = wanted.stdout && wanted.stderr;
        let (keys, leaving) = detach.map(|detach| (detach.keys, (detach.text, detach.told))).unzip();
        let heard = async {
            // Either side may be gone: there is nobody left to tell.
            let _ = match frames {
                Frames::Added => copy_in_frames(&mut output, &mut client_out).await,
                Frames::Kept if !all => select_frames(&mut output, &mut client_out, wanted, true).await,
                Frames::Stripped => select_frames(&mut output, &mut client_out, wanted, false).await,
                Frames::None | Frames::Kept => tokio::io::copy(&mut output, &mut client_out).await.map(drop),
            };
            if let Some(mut ended) = ended {
                let _ = ended.wait_for(|ended| *ended).await; // it has ended, too, if nobody is left to say so
            }
        };
        let left = tokio::select! {
            () = heard => false,
            () = said(client_in, process_in, stdin, keys) => true,
        };
        if let (true, Some((text, told))) = (left, leaving) {
            let _ = client_out.write_all(text.as_bytes()).await; // it has said that it leaves
            let _ = told.send(());
        }
        let _ = client_out.shutdown().await;
    }

    /// History and output, for a client that says nothing.
    fn body(self) -> Body {
        let history = self.history.into_iter().map(|history| {
            unfold(history, async |mut history| Some((history.next().await?, history)))
                .map_err(io::Error::other)
                .boxed()
        });
        let output = self.process.into_iter().map(|process| chunks(process).boxed());
        Body::from_stream(futures::stream::iter(history.chain(output)).flatten())
    }
}

/// Passes on what a client says, and that it has said all. Returns only if it leaves by the keys: otherwise the process
/// decides when it is over.
async fn said(
    mut client: impl AsyncRead + Unpin,
    mut process: OwnedWriteHalf,
    wanted: bool,
    keys: Option<DetachKeys>,
) {
    if wanted {
        match keys {
            Some(keys) => {
                if type_until(&mut client, &mut process, keys).await {
                    return;
                }
            }
            // A process that does not read any more is no reason to stop hearing it.
            None => drop(tokio::io::copy(&mut client, &mut process).await),
        }
        let _ = process.shutdown().await;
    }
    std::future::pending::<()>().await;
}

/// Passes on what is typed; true if it ended by the keys.
async fn type_until(
    client: &mut (impl AsyncRead + Unpin),
    process: &mut OwnedWriteHalf,
    mut keys: DetachKeys,
) -> bool {
    let (mut buffer, mut out) = (vec![0; COPY_SIZE], Vec::new());
    loop {
        let length = client.read(&mut buffer).await.unwrap_or(0);
        if length == 0 {
            return false;
        }
        out.clear();
        let left = keys.pass(&buffer[..length], &mut out);
        if process.write_all(&out).await.is_err() || left {
            return left;
        }
    }
}

/// Passes on what a client says to an exec, and the end of it. Never returns.
pub(crate) async fn feed(mut client: OwnedReadHalf, process: Option<pipe::Sender>) {
    if let Some(mut process) = process {
        let _ = tokio::io::copy(&mut client, &mut process).await; // it may not read any more
    }
    std::future::pending::<()>().await;
}

/// Copies a process's output, in frames or not, until both streams have ended or the client is gone.
pub(crate) async fn merge(
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    framed: bool,
    mut client: OwnedWriteHalf,
) {
    let (mut stdout, mut stderr) = (stdout, stderr);
    let (mut out, mut err) = (vec![0; COPY_SIZE], vec![0; COPY_SIZE]);
    while stdout.is_some() || stderr.is_some() {
        let (stream, length) = tokio::select! {
            // Of what was said in a moment, errors come last: which was first is not known.
            biased;
            length = read(&mut stdout, &mut out) => (Stream::Stdout, length),
            length = read(&mut stderr, &mut err) => (Stream::Stderr, length),
        };
        let (source, buffer) = match stream {
            Stream::Stdout => (&mut stdout, &out),
            Stream::Stderr => (&mut stderr, &err),
        };
        if length == 0 {
            *source = None;
            continue;
        }
        let mut piece = if framed { header(stream, length).to_vec() } else { Vec::new() };
        piece.extend_from_slice(&buffer[..length]);
        if client.write_all(&piece).await.is_err() {
            return;
        }
    }
}

/// Zero at its end; never returns without a pipe.
async fn read(pipe: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// Docker's stream header: stream number, three zeros, length in big-endian bytes.
pub(crate) fn header(stream: Stream, length: usize) -> [u8; HEADER] {
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [number, 0, 0, 0, a, b, c, d]
}

/// Copies a stream in frames of standard output.
async fn copy_in_frames(from: &mut OwnedReadHalf, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; COPY_SIZE];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&header(Stream::Stdout, length)).await?;
        to.write_all(&buffer[..length]).await?;
    }
}

/// Copies the frames of those streams that are wanted, with their heads or without.
async fn select_frames(
    from: &mut OwnedReadHalf,
    to: &mut (impl AsyncWrite + Unpin),
    wanted: Wanted,
    heads: bool,
) -> io::Result<()> {
    let mut head = [0; 8];
    loop {
        match from.read_exact(&mut head).await {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        };
        let [number, _, _, _, length @ ..] = head;
        let mut frame = from.take(u32::from_be_bytes(length).into());
        if wanted.has(if number == 2 { Stream::Stderr } else { Stream::Stdout }) {
            if heads {
                to.write_all(&head).await?;
            }
            tokio::io::copy(&mut frame, to).await?;
        } else {
            tokio::io::copy(&mut frame, &mut tokio::io::sink()).await?;
        }
    }
}

/// All that a reader gives.
fn chunks(
    reader: impl AsyncRead + Unpin + Send + 'static,
) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    unfold(reader, async |mut reader| {
        let mut buffer = vec![0; COPY_SIZE];
        match reader.read(&mut buffer).await {
            Ok(0) => None,
            Ok(length) => {
                buffer.truncate(length);
                Some((Ok(Bytes::from(buffer)), reader))
            }
            Err(error) => Some((Err(error), reader)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_that_are_not_wanted_are_left_out() {
        let (from, mut process) = UnixStream::pair().unwrap();
        for (stream, text) in [(Stream::Stdout, "out"), (Stream::Stderr, "error"), (Stream::Stdout, "more")] {
            process.write_all(&header(stream, text.len())).await.unwrap();
            process.write_all(text.as_bytes()).await.unwrap();
        }
        drop(process);
        let mut heard = Vec::new();
        let wanted = Wanted { stdout: false, stderr: true };
        select_frames(&mut from.into_split().0, &mut heard, wanted, true).await.unwrap();
        assert_eq!(heard, [&[2, 0, 0, 0, 0, 0, 0, 5][..], b"error"].concat());
    }
}
