//! Commands on networks.

pub(crate) mod connect;
pub(crate) mod create;
pub(crate) mod disconnect;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

use crate::client::ClientError;

/// The path of a network.
pub(crate) fn path(name: &str) -> Result<String, ClientError> {
    Ok(format!("/networks/{}", super::named("network", name)?))
}
