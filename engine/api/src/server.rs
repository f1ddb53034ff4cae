//! Listening, and ending gracefully.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use axum::Router;
use engine::Engine;
use engine_types::ErrorKind;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::act::Daemon;
use crate::route;

/// How long requests that are under way may take once the daemon is to end.
const GRACE: Duration = Duration::from_secs(5);
/// Who may talk to the socket: root and its group, as with Docker.
const SOCKET_MODE: u32 = 0o660;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix:///path`
    Unix(PathBuf),
    /// `tcp://127.0.0.1:2375`
    Tcp(SocketAddr),
}

/// Text that is no address to listen at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither form.
    #[error("invalid address {0:?}: expected unix:///PATH or tcp://127.0.0.1:PORT")]
    Invalid(String),
    /// Whoever can reach it could do anything on this host.
    #[error(
        "{0} is not a loopback address, and tcp without TLS would make root of everyone who can reach it: listen at \
         127.0.0.1, or forward the unix socket by ssh"
    )]
    NotLoopback(SocketAddr),
}

/// Why a daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened at.
    #[error("listen at {address}")]
    Listen {
        /// The address.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// Another daemon listens there.
    #[error("another daemon listens at {0}: stop it first, or give another address with -H")]
    InUse(Address),
    /// What an earlier daemon left cannot be taken up.
    #[error("take up the running containers: {0}")]
    Resume(String),
}

impl AddressError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl ServeError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse(_) => ErrorKind::Conflict,
            Self::Listen { .. } | Self::Resume(_) => ErrorKind::Internal,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let invalid = || AddressError::Invalid(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        let address = text.strip_prefix("tcp://").ok_or_else(invalid)?.replacen("localhost", "127.0.0.1", 1);
        let address: SocketAddr = address.parse().map_err(|_| invalid())?;
        if !address.ip().is_loopback() {
            return Err(AddressError::NotLoopback(address));
        }
        Ok(Self::Tcp(address))
    }
}

/// A daemon that listens.
#[derive(Debug)]
pub struct Server {
    daemon: Daemon,
    listeners: Vec<Listener>,
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener),
}

/// A socket's name, taken away when nobody listens any more.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0); // the next daemon takes its place, too
    }
}

impl Server {
    /// Listens at these addresses and takes up what an earlier daemon of the engine's root left.
    pub async fn bind(engine: Engine, addresses: &[Address]) -> Result<Self, ServeError> {
        let daemon = Daemon::new(engine);
        let mut listeners = Vec::new();
        for address in addresses {
            listeners.push(listen(address).await?);
        }
        daemon.resume().await.map_err(|e| ServeError::Resume(e.message()))?;
        Ok(Self { daemon, listeners })
    }

    /// Answers until `end` resolves, then lets what is under way come to its end for a while. Containers run on.
    pub async fn serve(self, end: impl Future<Output = ()>) {
        let app = Router::new().fallback(route::answer).with_state(self.daemon);
        let (ending, ended) = watch::channel(false);
        let mut serving = JoinSet::new();
        for listener in self.listeners {
            let (app, mut ended) = (app.clone(), ended.clone());
            serving.spawn(async move {
                let end = async move { drop(ended.wait_for(|ended| *ended).await) };
                let result = match listener {
                    Listener::Unix(listener, file) => {
                        let result = axum::serve(listener, app).with_graceful_shutdown(end).await;
                        drop(file);
                        result
                    }
                    Listener::Tcp(listener) => axum::serve(listener, app).with_graceful_shutdown(end).await,
                };
                if let Err(error) = result {
                    tracing::warn!(%error, "a socket is not served any more");
                }
            });
        }
        end.await;
        ending.send_replace(true);
        // Who follows a log or waits for an end would keep it for good: they are left when the time is up.
        let finished = async { while serving.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(GRACE, finished).await;
    }
}

async fn listen(address: &Address) -> Result<Listener, ServeError> {
    let failed = |source| ServeError::Listen { address: address.clone(), source };
    match address {
        Address::Tcp(at) => TcpListener::bind(at).await.map(Listener::Tcp).map_err(failed),
        Address::Unix(path) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(ServeError::InUse(address.clone()));
            }
            // The name that a killed daemon left.
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                _ => {}
            }
            if let Some(dir) = path.parent() {
                std::fs::create_dir_all(dir).map_err(failed)?;
            }
            let listener = UnixListener::bind(path).map_err(failed)?;
            let file = SocketFile(path.clone());
            let mode = std::fs::Permissions::from_mode(SOCKET_MODE);
            std::fs::set_permissions(path, mode).map_err(failed)?;
            Ok(Listener::Unix(listener, file))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_tcp_is_for_loopback_alone() {
        let parse = |text: &str| text.parse::<Address>();
        assert_eq!(parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert!(parse("tcp://localhost:2375").is_ok() && parse("tcp://[::1]:2375").is_ok());
        let public = parse("tcp://0.0.0.0:2375").unwrap_err();
        assert!(public.to_string().contains("not a loopback address"), "{public}");
        assert!(parse("unix://relative").is_err() && parse("fd://").is_err() && parse("").is_err());
    }
}
