use std::io;

use hyper::StatusCode;

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens there.
    #[error(
        "Cannot connect to the engine at {address}. Is its daemon running? Start it as root with `engine \
         daemon &`, or by its systemd unit; -H or DOCKER_HOST says where another one listens"
    )]
    Unreachable { address: String, source: io::Error },
    /// The socket is not for this user.
    #[error(
        "permission denied while trying to connect to the engine at {address}: be root, or of the group that the \
         socket belongs to"
    )]
    Denied { address: String },
    /// An address of a form that is not known.
    #[error("unable to parse docker host `{0}`: expected unix:///PATH or tcp://HOST:PORT")]
    Address(String),
    /// Certificates that cannot be used, or a server that cannot be trusted.
    #[error("TLS: {0}")]
    Tls(String),
    /// The daemon refused, in its own words.
    #[error("Error response from daemon: {message}")]
    Answer { status: StatusCode, message: String },
    /// The stream of progress ended with an error.
    #[error("{0}")]
    Progress(String),
    /// The request cannot be sent as it is.
    #[error("invalid request: {0}")]
    Request(String),
    /// The connection broke.
    #[error("error during connect: {0}")]
    Http(#[source] hyper::Error),
    /// What was answered is no JSON.
    #[error("the daemon's answer cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The daemon answered instead of handing the connection over.
    #[error("unable to upgrade to tcp, received {}", .0.as_u16())]
    NotHijacked(StatusCode),
    /// A stream of this process broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ClientError {
    /// The daemon says that what was named is not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Answer { status, .. } if *status == StatusCode::NOT_FOUND)
    }
}
