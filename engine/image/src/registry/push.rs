//! Pushes images to registries (OCI distribution spec, "Push").

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use engine_types::{Digest, ErrorKind, Reference};
use futures::StreamExt;
use futures::stream::unfold;
use oci_client::RegistryOperation;
use oci_client::errors::OciDistributionError;
use tokio::io::AsyncReadExt;

use super::endpoint::Endpoint;
use super::{PARALLEL_LAYERS, PullError, Registries, blocking};
use crate::manifest::{Descriptor, OCI_MANIFEST};
use crate::store::{DiffId, Image, ImageStore, LayerRef, SaveError, StoreError, sha256};

/// Bytes sent at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Progress is told when at least so many bytes have been sent since the last time.
const PROGRESS_BYTES: u64 = 512 * 1024;
/// How often the upload of a blob is tried, and the pause before the second time; it doubles each time.
const TRIES_MAX: u32 = 4;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);

/// What happens during a push, for whoever watches. Layers are named by the digest of their uncompressed archive, as
/// with Docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushEvent {
    /// The image's layers, topmost first.
    Layers(Vec<DiffId>),
    /// The registry has a layer already.
    Exists(DiffId),
    /// The registry took a layer from another of its repositories.
    Mounted {
        /// The layer.
        layer: DiffId,
        /// The repository.
        from: String,
    },
    /// More of a layer was sent.
    Progress {
        /// The layer.
        layer: DiffId,
        /// Bytes that were sent.
        sent: u64,
        /// Its length in bytes.
        size: u64,
    },
    /// All of a layer was sent.
    Sent(DiffId),
}

/// What was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A failure to push an image.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry cannot be reached, or answered with something else than what was asked for.
    #[error(transparent)]
    Registry(#[from] PullError),
    /// The registry lets nobody, or not this user, write there. The text is Docker's.
    #[error("denied: requested access to the resource is denied")]
    Denied(#[source] Box<OciDistributionError>),
    /// A name with a digest cannot be pushed: the digest follows from the image.
    #[error("cannot push a digest reference")]
    Digest,
    /// The image could not be read.
    #[error("failed to read the image")]
    Save(#[from] SaveError),
}

impl PushError {
    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Registry(e) => e.kind(),
            Self::Denied(_) => ErrorKind::Forbidden,
            Self::Digest => ErrorKind::InvalidArgument,
            Self::Save(e) => e.kind(),
        }
    }

    fn from_client(error: OciDistributionError, endpoint: &Endpoint, reference: &Reference) -> Self {
        match PullError::from_client(error, &endpoint.host, reference) {
            PullError::Denied { source, .. } => Self::Denied(source),
            other => Self::Registry(other),
        }
    }
}

impl From<StoreError> for PushError {
    fn from(error: StoreError) -> Self {
        Self::Save(error.into())
    }
}

/// One push to one registry.
struct Push<'a> {
    store: &'a ImageStore,
    endpoint: Endpoint,
    reference: &'a Reference,
    /// Repositories of the same registry that have the image, or what it was made of.
    others: Vec<Reference>,
    progress: &'a (dyn Fn(PushEvent) + Sync),
}

impl ImageStore {
    /// Pushes an image under a name, to the name's own registry. What the registry has is not sent again. An image that
    /// was pulled is pushed by the manifest it came by, so that its digest stays the same; layers that builds made are
    /// compressed once and kept so.
    ///
    /// Dropping the future stops the push.
    ///
    /// # Errors
    /// See [`PushError`].
    pub async fn push(
        &self,
        image: &Image,
        reference: &Reference,
        registries: &Registries,
        progress: &(dyn Fn(PushEvent) + Sync),
    ) -> Result<Pushed, PushError> {
        if reference.digest().is_some() {
            return Err(PushError::Digest);
        }
        let store = self.clone();
        let _hold = blocking(move || store.hold()).await?;
        let endpoint = registries.endpoint(reference.registry())?;
        let same = |other: &Reference| {
            other.registry() == reference.registry() && other.repository() != reference.repository()
        };
        let others = self.references_of(image.id)?.into_iter().filter(same).collect();
        let push = Push { store: self, endpoint, reference, others, progress };
        let pushed = push.run(image).await?;
        self.tag(image.id, &reference.with_digest(pushed.digest))?;
        Ok(pushed)
    }
}

impl Push<'_> {
    async fn run(&self, image: &Image) -> Result<Pushed, PushError> {
        let layers: Vec<DiffId> = image.layers.iter().rev().map(|layer| layer.diff_id).collect();
        (self.progress)(PushEvent::Layers(layers));
        for operation in [RegistryOperation::Push, RegistryOperation::Pull] {
            self.endpoint.authenticate(self.reference, operation).await.map_err(|error| match error {
                PullError::Denied { source, .. } => PushError::Denied(source),
                other => other.into(),
            })?;
        }
        // Of several layers with the same content one is sent.
        let mut unique: BTreeMap<DiffId, &LayerRef> = BTreeMap::new();
        for layer in &image.layers {
            unique.entry(layer.diff_id).or_insert(layer);
        }
        let layers: Vec<_> = unique.into_values().map(|layer| self.layer(layer)).collect();
        let mut layers = Box::pin(futures::stream::iter(layers).buffer_unordered(PARALLEL_LAYERS));
        while let Some(result) = layers.next().await {
            result?;
        }
        let (store, of) = (self.store.clone(), image.clone());
        let manifest = tokio::task::spawn_blocking(move || store.manifest_of(&of)).await;
        let (bytes, manifest) = manifest.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?;
        self.blob(&manifest.config, None).await?;
        let pushed = Pushed { digest: sha256(&bytes), size: bytes.len() as u64 };
        let media_type = manifest.media_type.as_deref().unwrap_or(OCI_MANIFEST).to_owned();
        self.manifest(bytes, &media_type).await?;
        Ok(pushed)
    }

    async fn layer(&self, layer: &LayerRef) -> Result<(), PushError> {
        let (store, of) = (self.store.clone(), layer.clone());
        let blob = blocking(move || store.compress_layer(&of)).await?;
        self.blob(&blob, Some(layer.diff_id)).await
    }

    /// Has the registry have a blob.
    async fn blob(&self, blob: &Descriptor, layer: Option<DiffId>) -> Result<(), PushError> {
        let name = self.endpoint.client_reference(self.reference, None);
        let tell = |event: fn(DiffId) -> PushEvent| layer.into_iter().for_each(|l| (self.progress)(event(l)));
        let digest = blob.digest.to_string();
        let failed = |e| PushError::from_client(e, &self.endpoint, self.reference);
        if self.endpoint.client.blob_exists(&name, &digest).await.map_err(failed)? {
            tell(PushEvent::Exists);
            return Ok(());
        }
        for other in &self.others {
            let source = self.endpoint.client_reference(other, None);
            // A registry that does not mount has begun an upload instead, which it forgets.
            if self.endpoint.client.mount_blob(&name, &source, &digest).await.is_ok() {
                if let Some(layer) = layer {
                    let from = other.repository().to_owned();
                    (self.progress)(PushEvent::Mounted { layer, from });
                }
                return Ok(());
            }
        }
        let mut pause = BACKOFF_FIRST;
        for attempt in 1.. {
            let error = match self.upload(blob, layer).await {
                Ok(()) => break,
                Err(error) => error,
            };
            let mendable = matches!(&error, PushError::Registry(PullError::Unreachable { .. }));
            if !mendable || attempt == TRIES_MAX {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        tell(PushEvent::Sent);
        Ok(())
    }

    async fn upload(&self, blob: &Descriptor, layer: Option<DiffId>) -> Result<(), PushError> {
        let name = self.endpoint.client_reference(self.reference, None);
        let path = self.store.blob_path(blob.digest);
        let opened = tokio::fs::File::open(&path).await;
        let file = opened.map_err(|source| StoreError::Io { action: "open", path, source })?;
        let (told, mut seen) = tokio::sync::watch::channel(0_u64);
        let pieces = unfold((file, 0, told), |(mut file, sent, told)| async move {
            let mut piece = vec![0; PIECE_BYTES];
            match file.read(&mut piece).await {
                Ok(0) => None,
                Ok(read) => {
                    piece.truncate(read);
                    let sent = sent + read as u64;
                    told.send_replace(sent);
                    Some((Ok(Bytes::from(piece)), (file, sent, told)))
                }
                Err(error) => Some((Err(OciDistributionError::from(error)), (file, sent, told))),
            }
        });
        let digest = blob.digest.to_string();
        let upload = self.endpoint.client.push_blob_stream(&name, pieces, &digest, Some(blob.size));
        let progress = async {
            let mut last = 0;
            while seen.changed().await.is_ok() {
                let sent = *seen.borrow_and_update();
                if let Some(layer) = layer.filter(|_| sent - last >= PROGRESS_BYTES || sent == blob.size) {
                    last = sent;
                    (self.progress)(PushEvent::Progress { layer, sent, size: blob.size });
                }
            }
        };
        let (uploaded, ()) = futures::join!(upload, progress);
        uploaded.map(drop).map_err(|e| PushError::from_client(e, &self.endpoint, self.reference))
    }

    async fn manifest(&self, bytes: Vec<u8>, media_type: &str) -> Result<(), PushError> {
        let name = self.endpoint.client_reference(self.reference, None);
        let content_type = media_type.parse().map_err(|_| {
            let registry = self.endpoint.host.clone();
            let text = format!("the media type {media_type:?} is no header's value");
            PullError::Registry { registry, source: Box::new(OciDistributionError::GenericError(Some(text))) }
        })?;
        let pushed = self.endpoint.client.push_manifest_raw(&name, bytes, content_type).await;
        pushed.map(drop).map_err(|e| PushError::from_client(e, &self.endpoint, self.reference))
    }
}
