//! What the suites share: private worlds with their own root, images, names and addresses.

mod world;

pub use world::{World, busybox_layer, require_root};
