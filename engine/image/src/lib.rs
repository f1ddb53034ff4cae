//! OCI images: blobs, layers, tags, archives and registries.
//!
//! [`ImageStore`] keeps images on disk; [`archive`] unpacks and packs tar archives for anyone who handles foreign
//! ones. Nothing here starts a process or mounts anything. All but [`ImageStore::pull`] and
//! [`ImageStore::push`] blocks.

pub mod archive;
mod config;
mod manifest;
mod registry;
mod store;

pub use config::{ContainerConfig, Empty, Healthcheck, History, ImageConfig, RootFs};
pub use manifest::{Descriptor, Platform};
pub use registry::{
    Credentials, Distribution, Found, PullError, PullEvent, PullOptions, PushError, PushEvent, Pushed,
    Registries,
};
pub use store::{
    ArchiveFormat, ChainId, DiffId, Hashed, Hold, Image, ImageStore, ImageSummary, Layer, LayerRef,
    LoadError, Loaded, Reclaimed, SaveError, StagedLayer, StoreError,
};
