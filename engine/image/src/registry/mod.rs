//! Pulls images from registries (OCI distribution spec).
//!
//! `oci-client` speaks the protocol: tokens, manifests, ranges. What is ours: which registry to ask, layers in
//! parallel and unpacked while they arrive, downloads resumed where they broke, every digest checked.

mod ask;
mod download;
mod endpoint;
mod error;
mod push;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use engine_types::{Digest, Reference};
use futures::StreamExt;
use oci_client::RegistryOperation;
use tokio::sync::mpsc;

pub use ask::{Distribution, Found};
pub use endpoint::{Credentials, Registries};
pub use error::PullError;
pub use push::{PushError, PushEvent, Pushed};

use crate::config::ImageConfig;
use crate::manifest::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, Manifest, ManifestOrIndex, OCI_INDEX, OCI_MANIFEST, Platform,
};
use crate::store::{ChainId, DiffId, Expected, Image, ImageStore, Ingested, LayerRef, StoreError, sha256};
use endpoint::Endpoint;

/// Layers downloaded and unpacked at the same time.
const PARALLEL_LAYERS: usize = 4;
/// Pieces of a download that may wait to be unpacked.
const PIECES_WAITING: usize = 64;
/// The longest configuration; what registries accept for a manifest.
const CONFIG_MAX_BYTES: u64 = 4 << 20;
/// How deep indexes may point to indexes.
const INDEX_DEPTH_MAX: u32 = 4;

/// Where to pull from and for which machine.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// Mirrors, credentials, and registries without TLS.
    pub registries: Registries,
    /// The machine to take the image for out of an index; this one by default.
    pub platform: Option<Platform>,
}

/// What happens during a pull, for whoever watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// A registry is asked for the image.
    Resolving {
        /// Its host and port.
        registry: String,
    },
    /// A mirror failed, and the next registry will be asked.
    MirrorFailed {
        /// Its host and port.
        registry: String,
        /// Why, causes included.
        reason: String,
    },
    /// A layer is in the store already.
    LayerExists {
        /// The digest of its blob.
        blob: Digest,
    },
    /// A layer's download begins.
    LayerStarted {
        /// The digest of its blob.
        blob: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// More of a layer has arrived; it is unpacked meanwhile.
    LayerProgress {
        /// The digest of its blob.
        blob: Digest,
        /// Bytes that have arrived.
        received: u64,
        /// Its length in bytes.
        size: u64,
    },
    /// A download broke and goes on after a pause.
    LayerResumed {
        /// The digest of its blob.
        blob: Digest,
        /// Bytes that have arrived.
        received: u64,
    },
    /// All of a layer has arrived; the rest of it is being unpacked.
    LayerExtracting {
        /// The digest of its blob.
        blob: Digest,
    },
    /// A layer is in the store.
    LayerDone {
        /// The digest of its blob.
        blob: Digest,
    },
    /// The image is in the store under its name.
    Done {
        /// The digest of what the name stands for in the registry.
        digest: Digest,
        /// The image was there before, whole.
        up_to_date: bool,
    },
}

/// One pull from one registry.
struct Pull<'a> {
    store: &'a ImageStore,
    endpoint: Endpoint,
    reference: &'a Reference,
    platform: Platform,
    progress: &'a (dyn Fn(PullEvent) + Sync),
}

/// What a name stands for.
struct Resolved {
    /// The digest of the manifest or index that the registry gave for the name.
    digest: Digest,
    manifest: Manifest,
    manifest_bytes: Bytes,
}

enum Fetched {
    Existing,
    New(Box<Ingested>),
    BlobOnly,
}

/// A layer of the image that is being pulled.
#[derive(Clone)]
struct Wanted {
    blob: Descriptor,
    diff_id: DiffId,
    chain_id: ChainId,
}

type BlobLocks = Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>;

impl ImageStore {
    /// Pulls an image and gives it the name it was asked for by, and the name with its digest.
    ///
    /// Mirrors are asked first. Layers that are here already are not downloaded again. Dropping the future stops
    /// the pull and leaves nothing but whole layers.
    ///
    /// # Errors
    /// See [`PullError`]; when all registries fail, the error is the last one's: the image's own registry.
    pub async fn pull(
        &self,
        reference: &Reference,
        options: &PullOptions,
        progress: &(dyn Fn(PullEvent) + Sync),
    ) -> Result<Image, PullError> {
        // Whoever asks for the same meanwhile waits, and finds it here.
        let turn = self.turn(&reference.canonical());
        let _turn = turn.lock().await;
        let store = self.clone();
        let _hold = blocking(move || store.hold()).await?;
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let mut endpoints = options.registries.endpoints(reference.registry())?.into_iter().peekable();
        while let Some(endpoint) = endpoints.next() {
            let registry = endpoint.host.clone();
            let pull = Pull { store: self, endpoint, reference, platform: platform.clone(), progress };
            match pull.run().await {
                Err(error) if endpoints.peek().is_some() => {
                    progress(PullEvent::MirrorFailed { registry, reason: with_causes(&error) });
                }
                other => return other,
            }
        }
        Err(PullError::NoRegistry(reference.registry().to_owned()))
    }
}

impl Pull<'_> {
    async fn run(&self) -> Result<Image, PullError> {
        (self.progress)(PullEvent::Resolving { registry: self.endpoint.host.clone() });
        self.endpoint.authenticate(self.reference, RegistryOperation::Pull).await?;
        let resolved = self.resolve().await?;
        let config = self.config(&resolved.manifest.config).await?;
        let parsed = ImageConfig::from_slice(&config)
            .map_err(|source| PullError::Malformed { what: "image configuration", source })?;
        let wanted = wanted(&parsed, &resolved.manifest)?;
        let fetched_any = self.layers(&wanted).await?;
        let layers = wanted.into_iter().map(|Wanted { blob, diff_id, chain_id }| LayerRef {
            diff_id,
            chain_id,
            blob: Some(blob),
        });
        let digest = resolved.digest;
        let image = self.record(config, layers.collect(), resolved).await?;
        (self.progress)(PullEvent::Done { digest, up_to_date: !fetched_any });
        Ok(image)
    }

    /// Fetches the manifest, through an index if the name stands for one.
    async fn resolve(&self) -> Result<Resolved, PullError> {
        let mut asked = self.reference.digest();
        let mut named = None;
        for _ in 0..INDEX_DEPTH_MAX {
            let accepted = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST];
            let bytes = self.endpoint.manifest(self.reference, asked, &accepted).await?;
            let actual = sha256(&bytes);
            if let Some(expected) = asked.filter(|expected| *expected != actual) {
                return Err(StoreError::Digest { what: "a manifest", expected, actual }.into());
            }
            let digest = *named.get_or_insert(actual);
            match serde_json::from_slice(&bytes)
                .map_err(|source| PullError::Malformed { what: "manifest", source })?
            {
                ManifestOrIndex::Manifest(manifest) if manifest.is_image() => {
                    return Ok(Resolved { digest, manifest, manifest_bytes: bytes });
                }
                ManifestOrIndex::Manifest(manifest) => {
                    let media_type = manifest.config.media_type;
                    return Err(PullError::NotAnImage { reference: self.reference.to_string(), media_type });
                }
                ManifestOrIndex::Index(index) => match index.select(&self.platform) {
                    Some(descriptor) => asked = Some(descriptor.digest),
                    None => break,
                },
            }
        }
        Err(PullError::NoPlatform { reference: self.reference.to_string(), platform: self.platform.clone() })
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
        if self.store.has_blob(descriptor.digest) {
            return Ok(self.store.read_blob(descriptor.digest, "an image configuration")?);
        }
        collect_blob(self, descriptor).await
    }

    /// Brings all layers into the store and tells whether any was missing.
    async fn layers(&self, wanted: &[Wanted]) -> Result<bool, PullError> {
        let locks = BlobLocks::default();
        // Every unpacking thread holds a sender, so the receiver ends when the last is gone.
        let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
        let fetches: Vec<_> = wanted.iter().map(|layer| self.fetch(layer, &locks, alive.clone())).collect();
        drop(alive);
        let mut fetches = Box::pin(futures::stream::iter(fetches).buffered(PARALLEL_LAYERS));
        let mut result = Ok(false);
        let mut parent = None;
        for layer in wanted {
            match fetches.next().await {
                Some(Ok(fetched)) => match self.place(layer, fetched, parent).await {
                    Ok(new) => result = result.map(|any| any | new),
                    Err(error) => result = Err(error),
                },
                Some(Err(error)) => result = Err(error),
                None => break,
            }
            if result.is_err() {
                break;
            }
            parent = Some(layer.chain_id);
        }
        // What the other layers had begun is cleared away before the error is told.
        drop(fetches);
        while all_gone.recv().await.is_some() {}
        result
    }

    async fn fetch(
        &self,
        layer: &Wanted,
        locks: &BlobLocks,
        alive: mpsc::Sender<Infallible>,
    ) -> Result<Fetched, PullError> {
        let blob = layer.blob.digest;
        // An image may have the same layer twice; the second waits for the first and takes its blob.
        let lock = {
            let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(blob).or_default())
        };
        let _turn = lock.lock().await;
        let unpacked = self.store.layer(layer.chain_id).is_ok();
        if self.store.has_blob(blob) {
            if unpacked {
                return Ok(Fetched::Existing);
            }
            if let Some(ingested) = self.unpack_blob(layer, alive.clone()).await? {
                return Ok(Fetched::New(Box::new(ingested)));
            }
        }
        (self.progress)(PullEvent::LayerStarted { blob, size: layer.blob.size });
        let (sender, receiver) = mpsc::channel(PIECES_WAITING);
        let (store, diff_id) = (self.store.clone(), layer.diff_id);
        let unpack = blocking(move || {
            let _alive = alive;
            let source = Arrivals { receiver, piece: Bytes::new() };
            if unpacked {
                return store.ingest_raw(source, blob).map(|()| Fetched::BlobOnly);
            }
            let expected = Expected { blob: Some(blob), diff_id: Some(diff_id) };
            let mut ingested = store.ingest(source, expected, true)?;
            store.place_blob(&mut ingested)?;
            Ok(Fetched::New(Box::new(ingested)))
        });
        let download = self.endpoint.download(self.reference, &layer.blob, sender, self.progress);
        match futures::join!(download, unpack) {
            // What stopped the unpacking is the cause; an incomplete download explains a failure to unpack.
            (Err(error), Err(_)) if !error.is_receiver_gone() => Err(error),
            (_, Err(error)) => Err(error.into()),
            (Err(error), Ok(_)) => Err(error),
            (Ok(()), Ok(fetched)) => Ok(fetched),
        }
    }

    /// Unpacks a blob that is here already; a damaged one is removed instead, to be downloaded again.
    async fn unpack_blob(
        &self,
        layer: &Wanted,
        alive: mpsc::Sender<Infallible>,
    ) -> Result<Option<Ingested>, PullError> {
        let (store, blob, diff_id) = (self.store.clone(), layer.blob.digest, layer.diff_id);
        let ingested = blocking(move || {
            let _alive = alive;
            match store.ingest_blob(blob, diff_id) {
                Err(StoreError::Digest { expected, .. }) if expected == blob => {
                    store.discard_blob(blob).map(|()| None)
                }
                other => other.map(Some),
            }
        });
        Ok(ingested.await?)
    }

    async fn place(
        &self,
        layer: &Wanted,
        fetched: Fetched,
        parent: Option<ChainId>,
    ) -> Result<bool, PullError> {
        let blob = layer.blob.digest;
        let new = match fetched {
            Fetched::Existing => {
                (self.progress)(PullEvent::LayerExists { blob });
                return Ok(false);
            }
            Fetched::BlobOnly => {
                let (store, layer) = (self.store.clone(), layer.clone());
                blocking(move || store.set_layer_blob(layer.chain_id, &layer.blob)).await?;
                false
            }
            Fetched::New(ingested) => {
                let store = self.store.clone();
                blocking(move || store.place(*ingested, parent)).await?;
                true
            }
        };
        (self.progress)(PullEvent::LayerDone { blob });
        Ok(new)
    }

    async fn record(
        &self,
        config: Vec<u8>,
        layers: Vec<LayerRef>,
        resolved: Resolved,
    ) -> Result<Image, PullError> {
        let (store, reference) = (self.store.clone(), self.reference.clone());
        let image = blocking(move || {
            let manifest = store.write_blob(&resolved.manifest_bytes)?;
            let image = store.put_image_record(&config, layers, Some(manifest))?;
            store.tag(image.id, &reference)?;
            store.tag(image.id, &reference.with_digest(resolved.digest))?;
            Ok(image)
        });
        Ok(image.await?)
    }
}

/// Downloads an image's configuration.
async fn collect_blob(pull: &Pull<'_>, descriptor: &Descriptor) -> Result<Vec<u8>, PullError> {
    if descriptor.size > CONFIG_MAX_BYTES {
        return Err(PullError::ConfigTooLarge { size: descriptor.size, limit: CONFIG_MAX_BYTES });
    }
    let (sender, mut receiver) = mpsc::channel::<Bytes>(PIECES_WAITING);
    let collect = async {
        let mut config = Vec::new();
        while let Some(piece) = receiver.recv().await {
            config.extend_from_slice(&piece);
        }
        config
    };
    let download = pull.endpoint.download(pull.reference, descriptor, sender, &|_| {});
    let (downloaded, config) = futures::join!(download, collect);
    downloaded?;
    let actual = sha256(&config);
    if actual != descriptor.digest {
        let what = "an image configuration";
        return Err(StoreError::Digest { what, expected: descriptor.digest, actual }.into());
    }
    Ok(config)
}

/// Pairs the manifest's layers with the configuration's.
fn wanted(config: &ImageConfig, manifest: &Manifest) -> Result<Vec<Wanted>, PullError> {
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        let (expected, actual) = (diff_ids.len(), manifest.layers.len());
        return Err(StoreError::LayerCount { expected, actual }.into());
    }
    let chain = ChainId::chain(diff_ids.iter().copied());
    let layers = manifest.layers.iter().zip(diff_ids).zip(chain);
    Ok(layers.map(|((blob, &diff_id), chain_id)| Wanted { blob: blob.clone(), diff_id, chain_id }).collect())
}

/// Runs what blocks on tokio's threads for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The arriving pieces of a download, as a reader for a thread that blocks.
struct Arrivals {
    receiver: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Arrivals {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
