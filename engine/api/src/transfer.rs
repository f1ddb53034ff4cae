//! Archives in and out: between connections, which are async, and threads that read and write files.

use std::io::{self, Read, Write};
use std::pin::Pin;

use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use futures::stream::unfold;
use tokio::sync::mpsc;

use crate::error::ApiError;

/// Bytes that are handed on at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Pieces that may wait for whoever takes them.
const PIECES_WAITING: usize = 8;

/// A request's body, for a thread that reads it, and what brings it there.
pub(crate) struct Upload {
    pub(crate) reader: UploadReader,
    /// To be awaited while the thread reads. Dropping it breaks the body off.
    pub(crate) copy: Pin<Box<dyn Future<Output = Result<(), ApiError>> + Send>>,
}

/// The thread's end of a request's body.
#[derive(Debug)]
pub(crate) struct UploadReader {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
    /// Sent once all has come: without, the client has gone.
    complete: tokio::sync::watch::Receiver<bool>,
}

impl Upload {
    pub(crate) fn new(body: Body) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING);
        let (finished, complete) = tokio::sync::watch::channel(false);
        let copy = Box::pin(async move {
            let mut body = body.into_data_stream();
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(|e| ApiError::Invalid(format!("the request's body: {e}")))?;
                if sender.send(piece).await.is_err() {
                    return Ok(()); // whoever reads has given up, and says why
                }
            }
            finished.send_replace(true);
            Ok(())
        });
        Self { reader: UploadReader { pieces, piece: Bytes::new(), complete }, copy }
    }
}

impl Read for UploadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None if *self.complete.borrow() => return Ok(0),
                None => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// A thread's end of an answer's body. Writing fails once the client has gone.
#[derive(Debug)]
pub(crate) struct Download {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Download {
    /// Has a thread write a body. If it fails, the body is cut short, so that the client does not take it for whole.
    pub(crate) fn body<E: std::fmt::Display>(
        write: impl FnOnce(&mut Self) -> Result<(), E> + Send + 'static,
    ) -> Body {
        let (sender, receiver) = mpsc::channel(PIECES_WAITING);
        tokio::task::spawn_blocking(move || {
            let mut download = Self { pieces: sender, piece: Vec::with_capacity(PIECE_BYTES) };
            if let Err(error) = write(&mut download) {
                tracing::debug!(%error, "an archive is cut short");
                let _ = download.pieces.blocking_send(Err(io::Error::other(error.to_string())));
            }
        });
        Body::from_stream(unfold(receiver, async |mut receiver| {
            let piece = receiver.recv().await?;
            Some((piece, receiver))
        }))
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Download {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        if self.piece.len() == PIECE_BYTES {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.send() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_thread_writes_comes_whole_or_broken() {
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES + 5).map(|n| n as u8).collect();
        let expected = bytes.clone();
        let body = Download::body(move |out| out.write_all(&bytes).and_then(|()| out.flush()));
        assert_eq!(axum::body::to_bytes(body, usize::MAX).await.unwrap(), expected);
        let broken = Download::body(|out| out.write_all(b"some").and(Err(io::Error::other("no more"))));
        assert!(axum::body::to_bytes(broken, usize::MAX).await.is_err());
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_does_not_end() {
        let read = |mut reader: UploadReader| async move {
            let reading = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
            reading.await.unwrap()
        };
        let Upload { reader, copy } = Upload::new(Body::from("whole"));
        let (read_all, copied) = tokio::join!(read(reader), copy);
        assert_eq!((read_all.unwrap(), copied.is_ok()), (5, true));
        let Upload { reader, copy } = Upload::new(Body::from("never asked for"));
        drop(copy);
        assert_eq!(read(reader).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
