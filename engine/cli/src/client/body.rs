//! What is sent along with a request.

use std::io::{self, Read};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{Stream, unfold};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::mpsc::{Sender, channel};

/// The body of a request.
pub(crate) type Body = http_body_util::combinators::BoxBody<Bytes, io::Error>;

/// Pieces that wait to be sent.
const PIECES_MAX: usize = 4;
/// Bytes of a piece.
const PIECE: usize = 64 * 1024;

/// A body of pieces as they come.
fn from_stream(pieces: impl Stream<Item = io::Result<Bytes>> + Send + Sync + 'static) -> Body {
    http_body_util::BodyExt::boxed(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))))
}

/// A body that a thread of its own produces: `produce` is given what to write to. Its error ends the body.
pub(crate) fn produced(produce: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static) -> Body {
    let (sender, receiver) = channel(PIECES_MAX);
    std::thread::spawn(move || {
        let mut pieces = Pieces { sender, buffer: Vec::with_capacity(PIECE) };
        let end = produce(&mut pieces).and_then(|()| io::Write::flush(&mut pieces));
        if let Err(error) = end {
            // Nobody takes it if the request is over.
            let _ = pieces.sender.blocking_send(Err(error));
        }
    });
    from_stream(unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver))))
}

/// A body of all that a reader gives.
pub(crate) fn copy_in(mut reader: impl Read + Send + 'static) -> Body {
    produced(move |pieces| io::copy(&mut reader, pieces).map(drop))
}

/// Writes pieces of a body.
pub(crate) struct Pieces {
    sender: Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE)));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the daemon takes no more");
        self.sender.blocking_send(Ok(piece)).map_err(gone)
    }
}
