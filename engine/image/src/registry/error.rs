use engine_types::{Digest, ErrorKind, Reference};
use oci_client::errors::OciDistributionError;

use crate::manifest::Platform;
use crate::store::StoreError;

/// A failure to pull an image.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry knows no such image. The text is Docker's.
    #[error("manifest for {reference} not found: manifest unknown")]
    NotFound {
        /// The image asked for.
        reference: String,
    },
    /// The registry wants other credentials, or hides what it does not have. The text is Docker's.
    #[error("pull access denied for {repository}, repository does not exist or may require 'docker login'")]
    Denied {
        /// The repository asked for.
        repository: String,
        /// The registry's answer.
        source: Box<OciDistributionError>,
    },
    /// The registry cannot be reached.
    #[error("failed to reach registry {registry}")]
    Unreachable {
        /// Its host and port.
        registry: String,
        /// Why.
        source: Box<OciDistributionError>,
    },
    /// The registry does not know the user, or the password is wrong.
    #[error("login attempt to {registry} failed: incorrect username or password")]
    LogIn {
        /// Its host and port.
        registry: String,
    },
    /// The registry did not answer as it should.
    #[error("registry {registry} does not answer")]
    Unanswered {
        /// Its host and port.
        registry: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The registry answered with something else than what was asked for.
    #[error("unexpected answer of registry {registry}")]
    Registry {
        /// Its host and port.
        registry: String,
        /// The answer.
        source: Box<OciDistributionError>,
    },
    /// A download broke more often than is tolerated.
    #[error(
        "download of {blob} from {registry} broke off {attempts} times, last after {received} of {size} bytes"
    )]
    Interrupted {
        /// The registry's host and port.
        registry: String,
        /// What was downloaded.
        blob: Digest,
        /// How often.
        attempts: u32,
        /// Bytes that arrived.
        received: u64,
        /// Bytes promised.
        size: u64,
    },
    /// More bytes came than the manifest says.
    #[error("registry {registry} sends more than the {size} bytes that {blob} has")]
    TooLong {
        /// The registry's host and port.
        registry: String,
        /// What was downloaded.
        blob: Digest,
        /// Bytes promised.
        size: u64,
    },
    /// The thread that unpacks gave up first; its own error says why.
    #[error("unpacking stopped before the download was complete")]
    Stopped,
    /// The configuration is unreasonably large.
    #[error("image configuration of {size} bytes; the limit is {limit} bytes")]
    ConfigTooLarge {
        /// Its length in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A manifest or configuration cannot be read.
    #[error("malformed {what}")]
    Malformed {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The name stands for a chart, a signature or another artifact.
    #[error("{reference} is not an image: its configuration has the media type {media_type:?}")]
    NotAnImage {
        /// The name.
        reference: String,
        /// What it is.
        media_type: String,
    },
    /// There is no image for this machine. The text is Docker's.
    #[error("no matching manifest for {platform} in the manifest list entries of {reference}")]
    NoPlatform {
        /// The name.
        reference: String,
        /// The machine.
        platform: Platform,
    },
    /// A mirror's address is neither `host[:port]` nor `http[s]://host[:port]`.
    #[error(
        "invalid registry address {0:?}: expected host[:port], with http:// or https:// before it or nothing"
    )]
    Address(String),
    /// No address is known for the registry.
    #[error("no address for registry {0}")]
    NoRegistry(String),
    /// The image could not be stored.
    #[error("failed to store the image")]
    Store(#[from] StoreError),
}

impl PullError {
    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } | Self::NoPlatform { .. } => ErrorKind::NotFound,
            Self::Denied { .. } | Self::LogIn { .. } => ErrorKind::Unauthorized,
            Self::Unreachable { .. }
            | Self::Unanswered { .. }
            | Self::Interrupted { .. }
            | Self::Registry { .. } => ErrorKind::Unavailable,
            Self::TooLong { .. } | Self::ConfigTooLarge { .. } | Self::Malformed { .. } => ErrorKind::Corrupt,
            Self::NotAnImage { .. } | Self::Address(_) | Self::NoRegistry(_) => ErrorKind::InvalidArgument,
            Self::Stopped => ErrorKind::Cancelled,
            Self::Store(e) => e.kind(),
        }
    }

    pub(super) fn is_receiver_gone(&self) -> bool {
        matches!(self, Self::Stopped)
    }

    /// Sorts the client's errors by what they mean.
    pub(super) fn from_client(error: OciDistributionError, registry: &str, reference: &Reference) -> Self {
        use oci_client::errors::OciErrorCode as Code;
        let not_found = || Self::NotFound { reference: reference.to_string() };
        let registry = registry.to_owned();
        let code = match &error {
            OciDistributionError::RegistryError { envelope, .. } => envelope.errors.first().map(|e| &e.code),
            _ => None,
        };
        use OciDistributionError as E;
        let unknown = matches!(code, Some(Code::ManifestUnknown | Code::NameUnknown | Code::NotFound));
        let denied = matches!(code, Some(Code::Unauthorized | Code::Denied));
        match &error {
            E::ImageManifestNotFoundError(_) | E::ServerError { code: 404, .. } => not_found(),
            _ if unknown => not_found(),
            E::UnauthorizedError { .. }
            | E::AuthenticationFailure(_)
            | E::ServerError { code: 401 | 403, .. } => {
                Self::Denied { repository: reference.familiar_name(), source: Box::new(error) }
            }
            _ if denied => Self::Denied { repository: reference.familiar_name(), source: Box::new(error) },
            E::RequestError(_) | E::IoError(_) => Self::Unreachable { registry, source: Box::new(error) },
            _ => Self::Registry { registry, source: Box::new(error) },
        }
    }
}
