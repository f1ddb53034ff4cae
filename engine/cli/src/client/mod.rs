//! Speaks the Docker Engine API to a daemon.
//!
//! Requests and answers are `serde_json` values whose members keep their order: `inspect`, `--format '{{json .}}'` and
//! templates show what the daemon says, fields included that no type of a client library knows. That is why this is
//! hyper itself and not bollard, whose models drop them. One connection serves a whole command; attaching and waiting
//! take one more each.

mod address;
mod body;
mod error;
mod patient;
mod response;
mod tls;

use std::fmt::Display;
use std::sync::Mutex;

use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, UPGRADE, USER_AGENT};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

pub(crate) use address::{Address, Tls};
pub(crate) use body::{Body, copy_in, produced};
pub(crate) use error::ClientError;
use patient::Patient;
pub(crate) use response::{Hijacked, JsonLines, Response};

/// What a path keeps as it is; names of images have slashes and colons.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b':')
    .remove(b'@')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the daemon is told of its client.
const AGENT: &str = concat!("Lighter-Client/", env!("CARGO_PKG_VERSION"), " (linux)");

/// A daemon, as a client sees it.
#[derive(Debug)]
pub(crate) struct Client {
    address: Address,
    /// `DOCKER_API_VERSION`; a path without a version means the daemon's newest.
    version: Option<String>,
    headers: Vec<(String, String)>,
    idle: Mutex<Option<SendRequest<Body>>>,
}

impl Client {
    /// Nothing is connected before the first request. `headers` go with each.
    pub(crate) fn new(address: Address, headers: Vec<(String, String)>) -> Self {
        let version = std::env::var("DOCKER_API_VERSION").ok().filter(|version| !version.is_empty());
        Self { address, version, headers, idle: Mutex::new(None) }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn get(&self, path: impl Into<String>) -> Request<'_> {
        self.request(Method::GET, path)
    }

    pub(crate) fn head(&self, path: impl Into<String>) -> Request<'_> {
        self.request(Method::HEAD, path)
    }

    pub(crate) fn post(&self, path: impl Into<String>) -> Request<'_> {
        self.request(Method::POST, path)
    }

    pub(crate) fn put(&self, path: impl Into<String>) -> Request<'_> {
        self.request(Method::PUT, path)
    }

    pub(crate) fn delete(&self, path: impl Into<String>) -> Request<'_> {
        self.request(Method::DELETE, path)
    }

    fn request(&self, method: Method, path: impl Into<String>) -> Request<'_> {
        Request {
            client: self,
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
        }
    }

    /// A connection that is free, or a new one.
    async fn connection(&self) -> Result<SendRequest<Body>, ClientError> {
        let idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(mut sender) = idle
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = TokioIo::new(Patient(self.address.connect().await?));
        let (sender, connection) = http1::handshake(stream).await.map_err(ClientError::Http)?;
        // What goes wrong with it is told to whoever waits for an answer.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(sender)
    }

    fn give_back(&self, sender: SendRequest<Body>) {
        *self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(sender);
    }
}

/// A request to be sent.
#[must_use]
pub(crate) struct Request<'a> {
    client: &'a Client,
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(&'static str, String)>,
    body: Option<(&'static str, Body)>,
}

impl<'a> Request<'a> {
    pub(crate) fn query(mut self, name: &'static str, value: impl Display) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// A parameter that is 1 or absent.
    pub(crate) fn flag(self, name: &'static str, on: bool) -> Self {
        if on { self.query(name, 1) } else { self }
    }

    pub(crate) fn maybe(self, name: &'static str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// `filters` in JSON, unless there are none.
    pub(crate) fn filters(self, filters: &Value) -> Self {
        let empty = filters.as_object().is_none_or(serde_json::Map::is_empty);
        if empty { self } else { self.query("filters", filters) }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn json(mut self, value: &Value) -> Self {
        let body = Full::from(value.to_string()).map_err(|never| match never {}).boxed();
        self.body = Some(("application/json", body));
        self
    }

    pub(crate) fn body(mut self, kind: &'static str, body: Body) -> Self {
        self.body = Some((kind, body));
        self
    }

    /// Sends it; an answer that is no success is an error.
    pub(crate) async fn send(self) -> Result<Response<'a>, ClientError> {
        let client = self.client;
        let mut sender = client.connection().await?;
        let request = self.build()?;
        let answer = sender.send_request(request).await.map_err(ClientError::Http)?;
        let response = Response::new(client, sender, answer);
        response.successful().await
    }

    /// Sends it and reads the JSON that is answered; null where there is none.
    pub(crate) async fn value(self) -> Result<Value, ClientError> {
        self.send().await?.value().await
    }

    /// Sends it; whatever is answered does not matter.
    pub(crate) async fn done(self) -> Result<StatusCode, ClientError> {
        let response = self.send().await?;
        let status = response.status();
        response.bytes().await?;
        Ok(status)
    }

    /// Sends it and takes the connection over.
    pub(crate) async fn hijack(self) -> Result<Hijacked, ClientError> {
        let client = self.client;
        let mut sender = client.connection().await?;
        let mut request = self.build()?;
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        request.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
        let answer = sender.send_request(request).await.map_err(ClientError::Http)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded = hyper::upgrade::on(answer).await.map_err(ClientError::Http)?;
            return Ok(Hijacked::new(upgraded));
        }
        let response = Response::new(client, sender, answer).successful().await?;
        Err(ClientError::NotHijacked(response.status()))
    }

    fn build(self) -> Result<hyper::Request<Body>, ClientError> {
        let Self { client, method, path, query, headers, body } = self;
        let mut target = match &client.version {
            Some(version) => format!("/v{version}"),
            None => String::new(),
        };
        target.extend(utf8_percent_encode(&path, PATH));
        for (n, (name, value)) in query.iter().enumerate() {
            target.push(if n == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.extend(utf8_percent_encode(value, QUERY));
        }
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, client.address.host_header())
            .header(USER_AGENT, AGENT);
        for (name, value) in &client.headers {
            request = request.header(name, value);
        }
        for (name, value) in &headers {
            request = request.header(HeaderName::from_static(name), value);
        }
        let body = match body {
            Some((kind, body)) => {
                request = request.header(CONTENT_TYPE, kind);
                body
            }
            None => Empty::new().map_err(|never| match never {}).boxed(),
        };
        request.body(body).map_err(|error| ClientError::Request(error.to_string()))
    }
}
