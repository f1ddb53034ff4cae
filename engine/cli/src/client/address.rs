use std::fmt;
use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{ClientError, tls};

/// The daemon's port where none is given; the second is for TLS.
const PORTS: [u16; 2] = [2375, 2376];

/// Where a daemon listens, and how it is spoken to.
#[derive(Debug)]
pub(crate) enum Address {
    /// `unix:///path`
    Unix(PathBuf),
    /// `tcp://host:port`
    Tcp { host: String, port: u16, tls: Option<Tls> },
}

/// What TLS is to use.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tls {
    /// Whether the server's certificate must be of the authority, and for its name.
    pub(crate) verify: bool,
    pub(crate) authority: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// A connection of any kind.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Address {
    /// Reads `-H` or `DOCKER_HOST`.
    pub(crate) fn parse(text: &str, tls: Option<Tls>) -> Result<Self, ClientError> {
        let invalid = || ClientError::Address(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(invalid()) };
        }
        let rest = match text.split_once("://") {
            Some(("tcp" | "http" | "https", rest)) => rest.trim_end_matches('/'),
            Some(_) => return Err(invalid()),
            None => text,
        };
        let default = PORTS[usize::from(tls.is_some())];
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') && !port.ends_with(']') => {
                (host, port.parse().map_err(|_| invalid())?)
            }
            _ => (rest, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.contains('/') || (host.is_empty() && rest.is_empty()) {
            return Err(invalid());
        }
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        Ok(Self::Tcp { host: host.to_owned(), port, tls })
    }

    pub(super) async fn connect(&self) -> Result<Box<dyn Connection>, ClientError> {
        match self {
            Self::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(source) => Err(self.failed(source)),
            },
            Self::Tcp { host, port, tls } => {
                let stream =
                    TcpStream::connect((host.as_str(), *port)).await.map_err(|source| self.failed(source))?;
                stream.set_nodelay(true)?;
                match tls {
                    None => Ok(Box::new(stream)),
                    Some(tls) => Ok(Box::new(tls::connect(tls, host, stream).await?)),
                }
            }
        }
    }

    fn failed(&self, source: io::Error) -> ClientError {
        let address = self.to_string();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied { address },
            _ => ClientError::Unreachable { address, source },
        }
    }

    pub(super) fn host_header(&self) -> String {
        match self {
            Self::Unix(_) => "api.engine.local".to_owned(),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        let shown = |text: &str| Address::parse(text, None).map(|a| a.to_string()).map_err(|e| e.to_string());
        let tls = Address::parse("tcp://example.org", Some(Tls::default())).unwrap();
        assert_eq!(tls.to_string(), "tcp://example.org:2376");
        for (text, address) in [
            ("unix:///run/x.sock", "unix:///run/x.sock"),
            ("tcp://127.0.0.1:99", "tcp://127.0.0.1:99"),
            ("tcp://example.org", "tcp://example.org:2375"),
            ("tcp://[::1]:99", "tcp://[::1]:99"),
            ("tcp://[::1]", "tcp://[::1]:2375"),
            ("tcp://:99/", "tcp://127.0.0.1:99"),
            ("localhost:99", "tcp://localhost:99"),
        ] {
            assert_eq!(shown(text).unwrap(), address, "{text}");
        }
        for text in ["unix://relative", "ssh://host", "tcp://", "tcp://host:port"] {
            assert!(shown(text).unwrap_err().starts_with("unable to parse docker host"), "{text}");
        }
    }
}
