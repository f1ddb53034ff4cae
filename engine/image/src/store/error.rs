use std::io;
use std::path::{Path, PathBuf};

use engine_types::{Digest, ErrorKind};

use crate::archive::{PackError, UnpackError};

/// A failure of the image store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No image has this name or id. The text is Docker's.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// A file of the store could not be used.
    #[error("failed to {action} {path:?}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A record is not what the store writes.
    #[error("malformed record {path:?}")]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An image's configuration cannot be read.
    #[error("malformed image configuration {digest}")]
    Config {
        /// The configuration's digest.
        digest: Digest,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Content differs from its digest.
    #[error("wrong digest of {what}: expected {expected}, got {actual}")]
    Digest {
        /// The content.
        what: &'static str,
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The configuration and the layers do not belong together.
    #[error("image configuration names {expected} layers, but there are {actual}")]
    LayerCount {
        /// Layers in the configuration.
        expected: usize,
        /// Layers given.
        actual: usize,
    },
    /// A layer that an image needs is not in the store.
    #[error("layer {0} is not in the store")]
    NoSuchLayer(Digest),
    /// A layer could not be unpacked.
    #[error("failed to unpack a layer into {path:?}")]
    Unpack {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: UnpackError,
    },
    /// A layer could not be made into an archive.
    #[error("failed to archive a layer")]
    Pack(#[source] PackError),
}

impl StoreError {
    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchImage(_) => ErrorKind::NotFound,
            Self::Io { .. } => ErrorKind::Internal,
            Self::Record { .. } | Self::Config { .. } | Self::Digest { .. } => ErrorKind::Corrupt,
            Self::LayerCount { .. } | Self::NoSuchLayer(_) => ErrorKind::Corrupt,
            Self::Unpack { source, .. } => source.kind(),
            Self::Pack(e) => e.kind(),
        }
    }
}

/// Wraps the kernel's answer with what was being done to which file.
pub(super) fn at<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}
