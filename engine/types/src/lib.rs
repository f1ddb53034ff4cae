//! The engine's vocabulary: ids, digests, image references, error kinds and paths.
//!
//! Nothing here does I/O, so every other crate may use it.

mod digest;
mod error_kind;
mod id;
mod paths;
mod reference;

pub use digest::{Digest, ParseDigestError};
pub use error_kind::{ErrorKind, FULL_DISK_REMEDY};
pub use id::{ContainerId, ExecId, ImageId, NetworkId, ParseIdError, SessionId};
pub use paths::Paths;
pub use reference::{ParseReferenceError, Reference};
