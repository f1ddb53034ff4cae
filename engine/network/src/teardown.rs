use engine_types::ErrorKind;

use crate::{FirewallError, ForwardPolicyError, NetlinkError};

/// One step of a removal that failed; the removal went on.
#[derive(Debug, thiserror::Error)]
pub enum TeardownFailure {
    /// An interface stays, or the interfaces could not be listed.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The rules could not be read or changed.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// Our rules stay in the host's FORWARD chain.
    #[error(transparent)]
    ForwardPolicy(#[from] ForwardPolicyError),
}

impl TeardownFailure {
    /// What this failure means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Netlink(e) => e.kind(),
            Self::Firewall(e) => e.kind(),
            Self::ForwardPolicy(e) => e.kind(),
        }
    }
}

/// The kind of several failures: the first one's.
pub(crate) fn kind(failures: &[TeardownFailure]) -> ErrorKind {
    failures.first().map_or(ErrorKind::Internal, TeardownFailure::kind)
}

/// All failures in one line, each with its cause: an error has room for only one source.
pub(crate) fn messages(failures: &[TeardownFailure]) -> String {
    let line = |failure: &TeardownFailure| match std::error::Error::source(failure) {
        Some(cause) => format!("{failure}: {cause}"),
        None => failure.to_string(),
    };
    failures.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_message_has_every_failure_and_its_cause() {
        let failures = ["delete interface lt1", "list interfaces"]
            .map(|step| TeardownFailure::from(NetlinkError::new(step, Errno::PERM)));
        assert_eq!(
            messages(&failures),
            "cannot delete interface lt1: Operation not permitted (os error 1); \
             cannot list interfaces: Operation not permitted (os error 1)"
        );
        assert_eq!(kind(&failures), ErrorKind::Unsupported);
    }
}
