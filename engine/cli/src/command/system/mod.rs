//! Commands on the engine itself and on registries.

pub(crate) mod builder;
pub(crate) mod completion;
pub(crate) mod df;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod man;
pub(crate) mod prune;
pub(crate) mod version;
