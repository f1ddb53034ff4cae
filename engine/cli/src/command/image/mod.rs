//! Commands on images.

pub(crate) mod build;
mod build_context;
pub(crate) mod history;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod prune;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rmi;
pub(crate) mod save;
pub(crate) mod search;
pub(crate) mod tag;

use crate::client::ClientError;

/// The path of an image.
pub(crate) fn path(name: &str) -> Result<String, ClientError> {
    Ok(format!("/images/{}", super::named("image", name)?))
}
