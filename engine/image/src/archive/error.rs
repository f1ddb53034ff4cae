use std::io;
use std::path::PathBuf;

use engine_types::ErrorKind;

/// A failure to unpack an archive. Entries unpacked before it remain: the caller removes the destination.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The destination could not be opened.
    #[error("failed to open the directory {path:?}")]
    Destination {
        /// The destination.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The source could not be read, or its compression is broken.
    #[error("failed to read the archive")]
    Read(#[source] io::Error),
    /// The source ends too early.
    #[error("archive is truncated after entry {entry:?}")]
    Truncated {
        /// The last entry that was begun.
        entry: String,
    },
    /// The source is no tar archive, or a broken one.
    #[error("malformed archive after entry {entry:?}: {reason}")]
    Malformed {
        /// The last entry that was begun.
        entry: String,
        /// What is wrong and where.
        reason: String,
    },
    /// An entry that would leave the destination, or be unsafe there.
    #[error("unsafe archive entry {entry:?}: {reason}")]
    Unsafe {
        /// The entry's name.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry that is a device where none is allowed.
    #[error("archive entry {entry:?} is a device, which is not allowed here")]
    Device {
        /// The entry's name.
        entry: String,
    },
    /// The archive is larger than allowed.
    #[error("archive exceeds the limit of {limit} {unit} at entry {entry:?}")]
    Limit {
        /// The entry at which it did.
        entry: String,
        /// The limit.
        limit: u64,
        /// Of what.
        unit: &'static str,
    },
    /// A directory would take the place of something else, or something else that of a directory.
    #[error("cannot overwrite {existing} {path:?} with {new}")]
    Kind {
        /// What is there.
        existing: &'static str,
        /// Where.
        path: PathBuf,
        /// What would be.
        new: &'static str,
    },
    /// An entry could not be written.
    #[error("failed to {action} {entry:?}")]
    Write {
        /// The entry's name.
        entry: String,
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl UnpackError {
    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Truncated { .. } | Self::Malformed { .. } => ErrorKind::Corrupt,
            Self::Read(source) if source.kind() == io::ErrorKind::InvalidData => ErrorKind::Corrupt,
            Self::Kind { .. } | Self::Unsafe { .. } | Self::Device { .. } | Self::Limit { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Destination { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Destination { .. } | Self::Read(_) | Self::Write { .. } => ErrorKind::Internal,
        }
    }
}
