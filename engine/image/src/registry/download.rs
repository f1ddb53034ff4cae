use std::time::Duration;

use bytes::Bytes;
use engine_types::Reference;
use futures::StreamExt;
use oci_client::client::BlobResponse;
use oci_client::errors::OciDistributionError;
use tokio::sync::mpsc;

use super::PullEvent;
use super::endpoint::Endpoint;
use super::error::PullError;
use crate::manifest::Descriptor;

/// How often a download may break before it is given up: in a row without a byte arriving, and altogether.
const STALLS_MAX: u32 = 6;
const BREAKS_MAX: u32 = 100;
/// The pause before a download that stalled is tried again; it doubles each time.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Progress is told when at least so many bytes have arrived since the last time.
const PROGRESS_BYTES: u64 = 256 * 1024;

/// How one connection ended.
enum Ended {
    Complete,
    Broken(Option<OciDistributionError>),
}

/// How far a download has come.
struct Transfer<'a> {
    descriptor: &'a Descriptor,
    received: u64,
    told: u64,
    sender: mpsc::Sender<Bytes>,
    progress: &'a (dyn Fn(PullEvent) + Sync),
}

impl Endpoint {
    /// Downloads a blob into `sender`, going on where a connection broke. The receiver checks the digest.
    pub(super) async fn download(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        sender: mpsc::Sender<Bytes>,
        progress: &(dyn Fn(PullEvent) + Sync),
    ) -> Result<(), PullError> {
        let mut transfer = Transfer { descriptor, received: 0, told: 0, sender, progress };
        let (mut stalls, mut breaks) = (0, 0);
        let blob = descriptor.digest;
        loop {
            let before = transfer.received;
            let cause = match self.connection(reference, &mut transfer).await? {
                Ended::Complete => {
                    progress(PullEvent::LayerExtracting { blob });
                    return Ok(());
                }
                Ended::Broken(cause) => cause,
            };
            breaks += 1;
            stalls = if transfer.received > before { 0 } else { stalls + 1 };
            if stalls >= STALLS_MAX || breaks >= BREAKS_MAX {
                return Err(match cause {
                    Some(cause) => PullError::from_client(cause, &self.host, reference),
                    None => PullError::Interrupted {
                        registry: self.host.clone(),
                        blob,
                        attempts: breaks,
                        received: transfer.received,
                        size: descriptor.size,
                    },
                });
            }
            if stalls > 0 {
                tokio::time::sleep(BACKOFF_FIRST * 2_u32.pow(stalls - 1)).await;
            }
            progress(PullEvent::LayerResumed { blob, received: transfer.received });
        }
    }

    /// Reads from one connection until the blob is complete or the connection ends.
    async fn connection(
        &self,
        reference: &Reference,
        transfer: &mut Transfer<'_>,
    ) -> Result<Ended, PullError> {
        let name = self.client_reference(reference, reference.digest());
        let digest = transfer.descriptor.digest.to_string();
        let answer =
            self.client.pull_blob_stream_partial(&name, digest.as_str(), transfer.received, None).await;
        let (mut stream, mut skip) = match answer {
            Ok(BlobResponse::Partial(stream)) => (stream, 0),
            // A registry without ranges starts over.
            Ok(BlobResponse::Full(stream)) => (stream, transfer.received),
            Err(e) if is_transient(&e) => return Ok(Ended::Broken(Some(e))),
            Err(e) => return Err(PullError::from_client(e, &self.host, reference)),
        };
        while let Some(piece) = stream.next().await {
            let Ok(mut piece) = piece else { break };
            let skipped = piece.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
            skip -= skipped as u64;
            transfer.pass_on(piece.split_off(skipped), &self.host).await?;
        }
        Ok(if transfer.received == transfer.descriptor.size { Ended::Complete } else { Ended::Broken(None) })
    }
}

impl Transfer<'_> {
    async fn pass_on(&mut self, piece: Bytes, registry: &str) -> Result<(), PullError> {
        let Descriptor { digest: blob, size, .. } = *self.descriptor;
        self.received += piece.len() as u64;
        if self.received > size {
            return Err(PullError::TooLong { registry: registry.to_owned(), blob, size });
        }
        self.sender.send(piece).await.map_err(|_| PullError::Stopped)?;
        if self.received - self.told >= PROGRESS_BYTES || self.received == size {
            self.told = self.received;
            (self.progress)(PullEvent::LayerProgress { blob, received: self.received, size });
        }
        Ok(())
    }
}

/// Tells what trying again may mend from what it will not.
fn is_transient(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::RequestError(_) | OciDistributionError::IoError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code >= 500 || *code == 429,
        _ => false,
    }
}
