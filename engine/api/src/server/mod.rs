//! Listening, and ending gracefully.

mod address;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use engine::Engine;
use engine_types::ErrorKind;
use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::act::Daemon;
use crate::route;
use tls::TlsListener;

pub use address::{Address, AddressError};
pub use tls::{Tls, TlsError};

/// How long requests that are under way may take once the daemon is to end.
const GRACE: Duration = Duration::from_secs(5);
/// Who may talk to the socket: root and its group, as with Docker.
const SOCKET_MODE: u32 = 0o660;

/// How a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where.
    pub addresses: Vec<Address>,
    /// How tcp is kept from strangers.
    pub tls: Option<Tls>,
    /// Serve plain tcp to whoever reaches this host, not to itself alone.
    pub plain: bool,
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
    /// Whoever can reach it could do anything on this host.
    #[error(
        "{0} is not a loopback address, and tcp without TLS makes root of everyone who can reach it: use --tlsverify \
         with --tlscacert, --tlscert and --tlskey, or say --tls=false if that is what you want"
    )]
    NotLoopback(SocketAddr),
    /// The service manager has opened no socket.
    #[error(
        "{0}: no such socket was passed (LISTEN_FDS): start the daemon by its systemd socket unit, or give -H unix://…"
    )]
    NothingInherited(Address),
    /// TLS cannot be spoken.
    #[error("TLS")]
    Tls(#[from] TlsError),
    /// What an earlier daemon left cannot be taken up.
    #[error("take up the running containers: {0}")]
    Resume(String),
}

impl ServeError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse(_) => ErrorKind::Conflict,
            Self::NotLoopback(_) | Self::Tls(_) | Self::NothingInherited(_) => ErrorKind::InvalidArgument,
            Self::Listen { .. } | Self::Resume(_) => ErrorKind::Internal,
        }
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
    /// With the name to take away, unless it is the service manager's.
    Unix(UnixListener, Option<SocketFile>),
    Tcp(TcpListener),
    Tls(TlsListener),
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
    pub async fn bind(engine: Engine, listen: &Listen) -> Result<Self, ServeError> {
        let acceptor = listen.tls.as_ref().map(Tls::acceptor).transpose()?;
        let mut inherited = ListenFd::from_env();
        let mut listeners = Vec::new();
        for address in &listen.addresses {
            match address {
                Address::Unix(path) => listeners.push(unix(address, path).await?),
                Address::Tcp { ip, port } => {
                    let at = Address::socket(*ip, *port, acceptor.is_some());
                    if acceptor.is_none() && !listen.plain && !ip.is_loopback() {
                        return Err(ServeError::NotLoopback(at));
                    }
                    let failed = |source| ServeError::Listen { address: address.clone(), source };
                    let listener = TcpListener::bind(at).await.map_err(failed)?;
                    listeners.push(match &acceptor {
                        Some(acceptor) => {
                            Listener::Tls(TlsListener::new(listener, acceptor.clone()).map_err(failed)?)
                        }
                        None => Listener::Tcp(listener),
                    });
                }
                Address::Inherited(name) => {
                    let found = take_inherited(&mut inherited, name.as_deref())
                        .map_err(|source| ServeError::Listen { address: address.clone(), source })?;
                    if found.is_empty() {
                        return Err(ServeError::NothingInherited(address.clone()));
                    }
                    listeners.extend(found);
                }
            }
        }
        let daemon = Daemon::new(engine);
        daemon.resume().await.map_err(|e| ServeError::Resume(e.message()))?;
        Ok(Self { daemon, listeners })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<String> {
        let unix = |listener: &UnixListener| {
            let address = listener.local_addr().ok();
            address.and_then(|address| Some(format!("unix://{}", address.as_pathname()?.display())))
        };
        let tcp = |address: io::Result<SocketAddr>| Some(format!("tcp://{}", address.ok()?));
        let address = |listener: &Listener| match listener {
            Listener::Unix(listener, _) => unix(listener),
            Listener::Tcp(listener) => tcp(listener.local_addr()),
            Listener::Tls(listener) => tcp(axum::serve::Listener::local_addr(listener)),
        };
        self.listeners.iter().filter_map(address).collect()
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
                    Listener::Tls(listener) => axum::serve(listener, app).with_graceful_shutdown(end).await,
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

async fn unix(address: &Address, path: &Path) -> Result<Listener, ServeError> {
    let failed = |source| ServeError::Listen { address: address.clone(), source };
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
    let file = SocketFile(path.to_owned());
    let mode = std::fs::Permissions::from_mode(SOCKET_MODE);
    std::fs::set_permissions(path, mode).map_err(failed)?;
    Ok(Listener::Unix(listener, Some(file)))
}

/// The unix sockets that were passed to this process (sd_listen_fds(3)), all, or the one of this name. Each is taken
/// once.
fn take_inherited(sockets: &mut ListenFd, name: Option<&str>) -> io::Result<Vec<Listener>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut found = Vec::new();
    for index in 0..sockets.len() {
        if name.is_some_and(|wanted| names.get(index) != Some(&wanted)) {
            continue;
        }
        if let Some(socket) = sockets.take_unix_listener(index)? {
            socket.set_nonblocking(true)?;
            found.push(Listener::Unix(UnixListener::from_std(socket)?, None));
        }
    }
    Ok(found)
}
