//! Connections that carry a process's streams, and bodies that come as they are made.

use std::io;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::runtime::log::Stream;
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::watch;

use crate::parse::Version;

/// Bytes copied at once.
const COPY_SIZE: usize = 32 * 1024;
/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 8;
/// One stream without frames.
const RAW: &str = "application/vnd.docker.raw-stream";
/// Several streams in frames.
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// How a client and a process are connected.
pub(crate) struct Joined {
    /// The process's side.
    pub(crate) process: UnixStream,
    /// What the client sends is for the process.
    pub(crate) stdin: bool,
    /// The streams that the client wants, of those that come in frames.
    pub(crate) wanted: Wanted,
    pub(crate) terminal: bool,
    /// What is told before all that is to come.
    pub(crate) earlier: Option<BoxStream<'static, Bytes>>,
    /// By these keys a client leaves a terminal.
    pub(crate) detach_keys: Vec<u8>,
    /// The connection ends no sooner than this has changed.
    pub(crate) ended: Option<watch::Receiver<bool>>,
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
        let Joined { earlier, process, .. } = joined;
        let earlier = earlier.unwrap_or_else(|| futures::stream::empty().boxed());
        let body = Body::from_stream(earlier.map(Ok).chain(parts(process)));
        return ([(header::CONTENT_TYPE, content_type)], body).into_response();
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => joined.run(TokioIo::new(client)).await,
            Err(error) => tracing::debug!(%error, "a client left before it was attached"),
        }
    });
    let headers =
        [(header::CONTENT_TYPE, content_type), (header::CONNECTION, "Upgrade"), (header::UPGRADE, "tcp")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

impl Joined {
    async fn run(self, client: impl AsyncRead + AsyncWrite) {
        let (client_in, mut client_out) = tokio::io::split(client);
        let (mut output, process_in) = self.process.into_split();
        let (stdin, ended, earlier) = (self.stdin, self.ended, self.earlier);
        let keys = if self.terminal { self.detach_keys } else { Vec::new() };
        let all = self.terminal || (self.wanted.stdout && self.wanted.stderr);
        let heard = async {
            let mut earlier = earlier.unwrap_or_else(|| futures::stream::empty().boxed());
            while let Some(bytes) = earlier.next().await {
                if client_out.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            // Either side may be gone: there is nobody left to tell.
            let _ = match all {
                true => tokio::io::copy(&mut output, &mut client_out).await.map(drop),
                false => select_frames(&mut output, &mut client_out, self.wanted).await,
            };
            if let Some(mut ended) = ended {
                let _ = ended.wait_for(|ended| *ended).await; // it has ended, too, if nobody is left to say so
            }
            let _ = client_out.shutdown().await;
        };
        tokio::select! {
            () = heard => {}
            () = said(client_in, process_in, stdin, keys) => {}
        }
    }
}

/// Passes on what a client says, and that it has said all. Returns only if it leaves by the keys for that: otherwise the
/// process decides when it is over.
async fn said(mut client: impl AsyncRead + Unpin, mut process: OwnedWriteHalf, wanted: bool, keys: Vec<u8>) {
    if wanted {
        let mut escape = Escape { keys, matched: 0 };
        let mut buffer = vec![0; COPY_SIZE];
        while let Ok(length @ 1..) = client.read(&mut buffer).await {
            let (text, leaves) = escape.take(&buffer[..length]);
            // A process that does not read any more is no reason to stop hearing it.
            let _ = process.write_all(&text).await;
            if leaves {
                return;
            }
        }
        let _ = process.shutdown().await;
    }
    std::future::pending::<()>().await;
}

/// Finds the keys by which a client leaves in what it says.
struct Escape {
    keys: Vec<u8>,
    /// How many of them it has said last; they are held back.
    matched: usize,
}

impl Escape {
    /// What is for the process, and whether the client leaves.
    fn take(&mut self, said: &[u8]) -> (Vec<u8>, bool) {
        let mut text = Vec::with_capacity(said.len());
        for &byte in said {
            if self.keys.get(self.matched) != Some(&byte) {
                text.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            match self.keys.get(self.matched) {
                Some(key) if *key == byte => self.matched += 1,
                _ => text.push(byte),
            }
            if !self.keys.is_empty() && self.matched == self.keys.len() {
                return (text, true);
            }
        }
        (text, false)
    }
}

/// Passes on what a client says to an exec, and the end of it. Never returns.
pub(crate) async fn feed(mut client: OwnedReadHalf, process: Option<pipe::Sender>) {
    if let Some(mut process) = process {
        let _ = tokio::io::copy(&mut client, &mut process).await; // it may not read any more
    }
    std::future::pending::<()>().await;
}

/// Copies a process's output in frames until both streams have ended or the client is gone.
pub(crate) async fn frame(
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    mut client: OwnedWriteHalf,
) {
    let (mut stdout, mut stderr) = (stdout, stderr);
    let (mut out, mut err) = (vec![0; COPY_SIZE], vec![0; COPY_SIZE]);
    while stdout.is_some() || stderr.is_some() {
        let (stream, length) = tokio::select! {
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
        let mut framed = header(stream, length).to_vec();
        framed.extend_from_slice(&buffer[..length]);
        if client.write_all(&framed).await.is_err() {
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

/// Copies the frames of those streams that are wanted.
async fn select_frames(
    from: &mut OwnedReadHalf,
    to: &mut (impl AsyncWrite + Unpin),
    wanted: Wanted,
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
            to.write_all(&head).await?;
            tokio::io::copy(&mut frame, to).await?;
        } else {
            tokio::io::copy(&mut frame, &mut tokio::io::sink()).await?;
        }
    }
}

/// All that a reader gives, as it comes.
fn parts(reader: impl AsyncRead + Unpin + Send + 'static) -> BoxStream<'static, io::Result<Bytes>> {
    let parts = unfold(reader, async |mut reader| {
        let mut buffer = vec![0; COPY_SIZE];
        match reader.read(&mut buffer).await {
            Ok(0) => None,
            Ok(length) => {
                buffer.truncate(length);
                Some((Ok(Bytes::from(buffer)), reader))
            }
            Err(error) => Some((Err(error), reader)),
        }
    });
    parts.boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_leaves_by_the_keys_for_that() {
        let mut escape = Escape { keys: vec![16, 17], matched: 0 };
        let mut take = |said: &[u8]| escape.take(said);
        assert_eq!(take(b"ls\x10"), (b"ls".to_vec(), false), "it may go on");
        assert_eq!(take(b"x\x10\x10"), (b"\x10x\x10".to_vec(), false), "it did not");
        assert_eq!(take(b"\x11rest"), (Vec::new(), true));
        let mut none = Escape { keys: Vec::new(), matched: 0 };
        assert_eq!(none.take(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }

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
        select_frames(&mut from.into_split().0, &mut heard, wanted).await.unwrap();
        assert_eq!(heard, [&[2, 0, 0, 0, 0, 0, 0, 5][..], b"error"].concat());
    }
}
