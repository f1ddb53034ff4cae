use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Body, Client, ClientError};

/// An answer, of which the head has been read.
pub(crate) struct Response<'a> {
    client: &'a Client,
    sender: SendRequest<Body>,
    answer: hyper::Response<Incoming>,
}

impl<'a> Response<'a> {
    pub(super) fn new(
        client: &'a Client,
        sender: SendRequest<Body>,
        answer: hyper::Response<Incoming>,
    ) -> Self {
        Self { client, sender, answer }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.answer.status()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.answer.headers().get(name)?.to_str().ok()
    }

    /// Turns one that says what went wrong into that.
    pub(super) async fn successful(self) -> Result<Self, ClientError> {
        let status = self.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(self);
        }
        let said = self.bytes().await?;
        let message = serde_json::from_slice::<Value>(&said).ok();
        let message = message.as_ref().and_then(|body| body["message"].as_str()).map(str::to_owned);
        let plain = || match String::from_utf8_lossy(&said).trim() {
            "" => status.to_string(),
            text => text.to_owned(),
        };
        Err(ClientError::Answer { status, message: message.unwrap_or_else(plain) })
    }

    /// The whole body.
    pub(crate) async fn bytes(self) -> Result<Bytes, ClientError> {
        let bytes = self.answer.into_body().collect().await.map_err(ClientError::Http)?.to_bytes();
        self.client.give_back(self.sender);
        Ok(bytes)
    }

    pub(crate) async fn value(self) -> Result<Value, ClientError> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&bytes)?) }
    }

    /// The next piece of the body; none at its end.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.answer.body_mut().frame().await {
            if let Ok(piece) = frame.map_err(ClientError::Http)?.into_data() {
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }

    /// The body as JSON values, one a line.
    pub(crate) fn lines(self) -> JsonLines<'a> {
        JsonLines { response: self, read: BytesMut::new() }
    }
}

/// Values as they come.
pub(crate) struct JsonLines<'a> {
    response: Response<'a>,
    read: BytesMut,
}

impl JsonLines<'_> {
    /// The next value; none at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line = self.read.split_to(end + 1);
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(serde_json::from_slice(&line)?));
                }
                continue;
            }
            match self.response.piece().await? {
                Some(piece) => self.read.extend_from_slice(&piece),
                None if self.read.trim_ascii().is_empty() => return Ok(None),
                None => return Ok(Some(serde_json::from_slice(&self.read.split())?)),
            }
        }
    }
}

/// A connection that carries a process's streams.
pub(crate) struct Hijacked(TokioIo<Upgraded>);

impl Hijacked {
    pub(super) fn new(upgraded: Upgraded) -> Self {
        Self(TokioIo::new(upgraded))
    }
}

impl AsyncRead for Hijacked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Hijacked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
