/// What to do about a disk that is full: said after an error that names the path.
pub const FULL_DISK_REMEDY: &str =
    "free space on that disk, or keep everything on a larger one with LIGHTER_ROOT";

/// What an error means to the caller, whatever caused it.
///
/// Each error type of the engine has a `kind()` method; one place (the HTTP API, a binary's `main`) turns the
/// kind into a status or an exit code. The set follows Docker's `errdefs`, so that statuses agree with Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong (HTTP 400).
    InvalidArgument,
    /// The named object does not exist (404).
    NotFound,
    /// The object's state or another object forbids it (409).
    Conflict,
    /// Credentials are missing or wrong (401).
    Unauthorized,
    /// The caller may not do this (403).
    Forbidden,
    /// Something outside this process is not answering; trying again may help (503).
    Unavailable,
    /// This host or build cannot do it: a missing kernel feature, tool or privilege (501).
    Unsupported,
    /// Data on disk or on the wire is not what its digest or format promised (500).
    Corrupt,
    /// The caller gave up (499).
    Cancelled,
    /// A failure inside the engine or the kernel (500).
    Internal,
}
