//! The layers of a stage while it is built: those in the store, and above them those that are still being hashed.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use engine_image::{ChainId, DiffId, Hashed, ImageStore, StagedLayer, StoreError};
use tokio::task::JoinHandle;

use crate::cache::{BuildCache, Key, StepRecord};
use crate::config::StageConfig;
use crate::error::Problem;

/// A layer in the store.
#[derive(Debug, Clone)]
struct Settled {
    diff_id: DiffId,
    chain_id: ChainId,
    path: PathBuf,
}

/// A layer that is being hashed. Dropping it removes its files.
#[derive(Debug)]
struct Pending {
    upper: PathBuf,
    hashing: JoinHandle<(StagedLayer, Result<Hashed, StoreError>)>,
    key: Key,
    created: String,
    description: String,
}

/// The layers of a stage.
#[derive(Debug)]
pub(crate) struct Layers {
    store: ImageStore,
    cache: BuildCache,
    settled: Vec<Settled>,
    pending: VecDeque<Pending>,
    /// What is left of settled layers, of which a running command may still have one mounted: where the store had the
    /// same layer already, that is all of it.
    leftovers: Vec<StagedLayer>,
}

impl Layers {
    /// A stage without layers.
    pub(crate) fn new(store: ImageStore, cache: BuildCache) -> Self {
        Self { store, cache, settled: Vec::new(), pending: VecDeque::new(), leftovers: Vec::new() }
    }

    /// The layers of another stage or an image, which all are in the store.
    pub(crate) fn push(&mut self, diff_id: DiffId, chain_id: ChainId, path: PathBuf) {
        self.settled.push(Settled { diff_id, chain_id, path });
    }

    /// The same layers for another stage.
    pub(crate) fn share(&self) -> Self {
        Self { settled: self.settled.clone(), ..Self::new(self.store.clone(), self.cache.clone()) }
    }

    /// Takes the layer that the cache has for a step. A step above layers that are new in this build has none: its
    /// key names a step of which the cache knew nothing.
    pub(crate) fn take_cached(&mut self, key: Key) -> Option<String> {
        if !self.pending.is_empty() {
            return None;
        }
        let record = self.cache.find(key, self.top(), &self.store)?;
        let path = self.store.layer(record.chain_id).ok()?.path;
        self.settled.push(Settled { diff_id: record.diff_id, chain_id: record.chain_id, path });
        Some(record.created)
    }

    /// Adds a new layer and hashes it in the background.
    pub(crate) fn add(&mut self, staged: StagedLayer, key: Key, created: String, description: String) {
        let upper = staged.upper();
        let hashing = tokio::task::spawn_blocking(move || {
            let hashed = staged.hash();
            (staged, hashed)
        });
        self.pending.push_back(Pending { upper, hashing, key, created, description });
    }

    /// Where the layers lie, topmost first. The paths of new layers are good until [`Layers::settle`].
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        let pending = self.pending.iter().rev().map(|pending| pending.upper.clone());
        pending.chain(self.settled.iter().rev().map(|layer| layer.path.clone())).collect()
    }

    /// Waits for the hashes and moves the new layers into the store, lowest first. May be dropped at any time and
    /// called again.
    pub(crate) async fn settle(&mut self) -> Result<(), Problem> {
        while let Some(front) = self.pending.front_mut() {
            let finished = (&mut front.hashing).await;
            let Some(Pending { key, created, description, .. }) = self.pending.pop_front() else { break };
            // The thread was cancelled with the runtime, or panicked.
            let (staged, hashed) = finished.map_err(|_| Problem::Cancelled)?;
            let hashed = hashed.map_err(Problem::Store)?;
            let layer = self.store.adopt_mounted(&staged, self.top(), hashed).map_err(Problem::Store)?;
            self.leftovers.push(staged);
            let (diff_id, chain_id) = (layer.diff_id, layer.chain_id);
            self.cache.put(key, &StepRecord { diff_id, chain_id, created, description });
            self.settled.push(Settled { diff_id, chain_id, path: layer.path });
        }
        Ok(())
    }

    /// Removes what is left of settled layers, none of which is mounted any more.
    pub(crate) fn release(&mut self) {
        self.leftovers.clear();
    }

    /// The digests of all layers, lowest first.
    pub(crate) fn diff_ids(&self) -> Vec<DiffId> {
        self.settled.iter().map(|layer| layer.diff_id).collect()
    }

    fn top(&self) -> Option<ChainId> {
        self.settled.last().map(|layer| layer.chain_id)
    }
}

/// A finished stage, as others start from it or copy from it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) key: Key,
    pub(crate) layers: Layers,
    pub(crate) config: StageConfig,
    pub(crate) steps: usize,
    pub(crate) cached: usize,
}

/// A stage that others wait for.
pub(crate) type Outcome = Option<Arc<Finished>>;
