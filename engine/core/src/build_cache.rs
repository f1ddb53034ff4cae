//! What builds leave for the next ones: listed, pruned, and kept within a bound.

use std::collections::HashSet;

use engine_build::{CachedStep, cached_steps, forget_step};
use engine_image::{ChainId, Reclaimed};

use crate::engine::{Engine, blocking};
use crate::error::{At, Error};

/// Bytes of files that the build cache may keep besides those of images.
const CACHE_MAX_BYTES: u64 = 20 << 30;
/// Steps that it may know.
const CACHE_MAX_STEPS: usize = 20_000;

/// A step in the build cache and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedLayer {
    /// The step.
    pub step: CachedStep,
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes of its files and of those below, as far as neither an image nor a step that was used later needs them.
    pub own_bytes: u64,
    /// An image or another step has the layer, too.
    pub shared: bool,
}

impl Engine {
    /// What the build cache has, most recently used first. A step whose layer is gone is not told.
    pub async fn build_cache_layers(&self) -> Result<Vec<CachedLayer>, Error> {
        let (images, dir) = (self.images().clone(), self.build_cache());
        blocking(move || {
            let mut steps = cached_steps(&dir).at(&dir)?;
            steps.sort_by_key(|step| std::cmp::Reverse(step.last_used));
            let of_images = images.layers_of_images()?;
            let mut seen: HashSet<ChainId> = HashSet::new();
            let mut layers = Vec::new();
            for step in steps {
                let Ok(layer) = images.layer(step.chain_id) else { continue };
                let mut layer_of = CachedLayer { bytes: layer.file_bytes, own_bytes: 0, shared: true, step };
                let mut next = Some(layer);
                while let Some(layer) = next {
                    if of_images.contains(&layer.chain_id) || !seen.insert(layer.chain_id) {
                        break;
                    }
                    layer_of.shared = false;
                    layer_of.own_bytes += layer.file_bytes;
                    next = layer.parent.and_then(|parent| images.layer(parent).ok());
                }
                layers.push(layer_of);
            }
            Ok(layers)
        })
        .await
    }

    /// Forgets steps of the build cache, and removes the layers that nothing else needs. What a build uses meanwhile is
    /// removed by a later collection.
    pub async fn prune_build_cache(&self, steps: Vec<CachedStep>) -> Result<Reclaimed, Error> {
        let dir = self.build_cache();
        blocking(move || steps.iter().try_for_each(|step| forget_step(&dir, step)).at(&dir)).await?;
        self.collect_images().await
    }

    /// Forgets what was not used for longest until the cache is within its bound.
    pub async fn bound_build_cache(&self) -> Result<(), Error> {
        let layers = self.build_cache_layers().await?;
        let surplus = beyond(&layers, CACHE_MAX_BYTES, CACHE_MAX_STEPS);
        if !surplus.is_empty() {
            self.prune_build_cache(surplus).await?;
        }
        Ok(())
    }

    /// The layers that the build cache needs.
    pub(crate) fn cached_chains(&self) -> Result<HashSet<ChainId>, Error> {
        let dir = self.build_cache();
        Ok(cached_steps(&dir).at(&dir)?.into_iter().map(|step| step.chain_id).collect())
    }
}

/// The steps by which a cache, most recently used first, is larger than it may be.
pub fn beyond(layers: &[CachedLayer], max_bytes: u64, max_steps: usize) -> Vec<CachedStep> {
    let mut bytes = 0;
    let mut surplus = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        bytes += layer.own_bytes;
        if bytes > max_bytes || n >= max_steps {
            surplus.push(layer.step.clone());
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use engine_image::DiffId;
    use engine_types::Digest;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_was_used_last_stays() {
        let layer = |n: u8, bytes, shared| CachedLayer {
            step: CachedStep {
                id: n.to_string(),
                chain_id: ChainId::of(None, DiffId(Digest::from_sha256([n; 32]))),
                created: String::new(),
                last_used: SystemTime::UNIX_EPOCH,
                description: String::new(),
            },
            bytes,
            own_bytes: if shared { 0 } else { bytes },
            shared,
        };
        let layers = [layer(1, 50, false), layer(2, 500, true), layer(3, 40, false), layer(4, 20, false)];
        let ids = |steps: Vec<CachedStep>| steps.into_iter().map(|step| step.id).collect::<Vec<_>>();
        assert_eq!(ids(beyond(&layers, 100, 10)), ["4"]);
        assert_eq!(ids(beyond(&layers, 1000, 2)), ["3", "4"]);
        assert_eq!(ids(beyond(&layers, 1000, 10)), [""; 0]);
    }
}
