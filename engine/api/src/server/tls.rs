use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

/// How long a client may take to prove itself.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that have proved themselves and wait to be served.
const READY_MAX: usize = 64;
/// The pause after the system had no descriptor for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// The daemon's identity by tcp, and whom it believes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Its certificate, with those between it and its authority; PEM.
    pub certificate: PathBuf,
    /// The key of it; PEM.
    pub key: PathBuf,
    /// The authority whose certificates clients must have; none: any client is served.
    pub client_authority: Option<PathBuf>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no such thing.
    #[error("{path}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: tokio_rustls::rustls::pki_types::pem::Error,
    },
    /// Certificate and key do not fit, or the authority is none.
    #[error("the certificates do not serve")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Tls {
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| TlsError::Pem { path: self.key.clone(), source })?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(unusable)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(unusable)?)
            }
        };
        let config = builder.with_single_cert(chain, key).map_err(unusable)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::Pem { path: path.clone(), source };
    CertificateDer::pem_file_iter(path).map_err(failed)?.collect::<Result<_, _>>().map_err(failed)
}

fn unusable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TlsError {
    TlsError::Unusable(error.into())
}

/// Listens by TLS. One that is slow to prove itself holds up nobody.
#[derive(Debug)]
pub(super) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, acceptor: TlsAcceptor) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(READY_MAX);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = sender.closed() => return,
                };
                match accepted {
                    Ok((stream, from)) => {
                        let (acceptor, sender) = (acceptor.clone(), sender.clone());
                        tokio::spawn(async move {
                            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                                // Nobody takes it any more once the daemon ends.
                                Ok(Ok(stream)) => drop(sender.send((stream, from)).await),
                                Ok(Err(error)) => tracing::debug!(%from, %error, "TLS handshake failed"),
                                Err(_) => tracing::debug!(%from, "TLS handshake timed out"),
                            }
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    }
                }
            }
        });
        Ok(Self { ready, address })
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // Its task ends only with this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
