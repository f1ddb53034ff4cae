//! What the suites share: private worlds with their own root, images, names and addresses.

mod certificates;
mod daemon;
mod host;
mod world;

pub use certificates::{Authority, Certificate};
pub use daemon::{EngineDaemon, import_into, with_engine};
pub use host::{built, expect_success, remove_cgroups, remove_shared};
pub use world::{World, busybox_layer, require_root};
