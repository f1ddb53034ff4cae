//! Commands on volumes.

pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

use crate::client::ClientError;

/// The path of a volume.
pub(crate) fn path(name: &str) -> Result<String, ClientError> {
    Ok(format!("/volumes/{}", super::named("volume", name)?))
}
