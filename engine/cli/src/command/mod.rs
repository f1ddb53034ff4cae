//! One module a command.

pub(crate) mod build;
pub(crate) mod daemon;
pub(crate) mod exec;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod rm;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod stop;
mod streams;
pub(crate) mod wait;
