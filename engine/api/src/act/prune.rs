//! Removing what is not used.

use engine::build::CachedStep;
use engine::{CachedLayer, Error};
use jiff::{SignedDuration, Timestamp};

use super::Daemon;
use super::container::ANONYMOUS_LABEL;
use super::system::disk_usage;
use crate::error::ApiError;
use crate::parse::Filters;

/// What was removed, and the bytes that were freed.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    pub(crate) removed: Vec<String>,
    pub(crate) untagged: Vec<String>,
    pub(crate) bytes: u64,
}

impl Daemon {
    pub(crate) async fn prune_containers(&self, filters: &Filters) -> Result<Pruned, ApiError> {
        let until = until(filters)?;
        let mut pruned = Pruned::default();
        for container in self.engine().containers().await? {
            let spared = container.running
                || container.config.session.is_some()
                || until.is_some_and(|until| container.created >= until)
                || !filters.labels(&container.config.labels);
            if spared {
                continue;
            }
            let upper = container.log_path.with_file_name("upper");
            let bytes = super::blocking(move || disk_usage(&upper)).await;
            match self.remove(&container.id.to_string(), false, false).await {
                Ok(()) => {}
                // Started or removed by somebody else meanwhile.
                Err(ApiError::Engine(Error::Running(_) | Error::NoSuchContainer(_))) => continue,
                Err(error) => return Err(error),
            }
            pruned.bytes += bytes;
            pruned.removed.push(container.id.to_string());
        }
        Ok(pruned)
    }

    /// Images without a name, or, with the filter `dangling=false`, all that no container was made of.
    pub(crate) async fn prune_images(&self, filters: &Filters) -> Result<Pruned, ApiError> {
        let (until, dangling) = (until(filters)?, filters.flag("dangling")?.unwrap_or(true));
        let mut pruned = Pruned::default();
        for (image, containers) in self.images().await? {
            let created = image.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
            let spared = containers > 0
                || (dangling && !image.references.is_empty())
                || until.is_some_and(|until| created.is_none_or(|created| created >= until))
                || !filters.labels(&image.labels);
            if spared {
                continue;
            }
            let removed = self.remove_image(&image.id.to_string(), true).await?;
            pruned.untagged.extend(removed.untagged.iter().map(ToString::to_string));
            if let Some(id) = removed.deleted {
                pruned.removed.push(id.to_string());
                pruned.bytes += image.file_bytes;
            }
        }
        Ok(pruned)
    }

    pub(crate) async fn prune_networks(&self, filters: &Filters) -> Result<Pruned, ApiError> {
        let until = until(filters)?;
        let containers = self.engine().containers().await?;
        let used: Vec<String> =
            containers.iter().flat_map(|c| c.config.endpoints()).map(|endpoint| endpoint.network).collect();
        let mut pruned = Pruned::default();
        for network in self.engine().networks().await? {
            let spared = network.name == "bridge"
                || network.config.session.is_some()
                || used.iter().any(|key| *key == network.name || *key == network.id.to_string())
                || until.is_some_and(|until| network.created >= until)
                || !filters.labels(&network.config.labels);
            if !spared {
                self.remove_network(&network.id.to_string()).await?;
                pruned.removed.push(network.name);
            }
        }
        Ok(pruned)
    }

    /// Volumes without a name of their own, or, with the filter `all`, every volume that no container mounts.
    pub(crate) async fn prune_volumes(&self, filters: &Filters, all: bool) -> Result<Pruned, ApiError> {
        let all = all || filters.flag("all")?.unwrap_or(false);
        let mut pruned = Pruned::default();
        for volume in self.engine().volumes().await? {
            let chosen = all || volume.labels.contains_key(ANONYMOUS_LABEL);
            if !chosen || !filters.labels(&volume.labels) {
                continue;
            }
            let data = volume.directory.clone();
            let bytes = super::blocking(move || disk_usage(&data)).await;
            match self.remove_volume(&volume.name, false).await {
                Ok(()) => {}
                Err(ApiError::Engine(Error::VolumeInUse { .. } | Error::NoSuchVolume(_))) => continue,
                Err(error) => return Err(error),
            }
            pruned.bytes += bytes;
            pruned.removed.push(volume.name);
        }
        Ok(pruned)
    }
}

/// What of the build cache is to go.
#[derive(Debug, Default)]
pub(crate) struct PruneBuild {
    /// Steps whose layers images have as well.
    pub(crate) all: bool,
    /// Bytes that may stay.
    pub(crate) keep: Option<u64>,
    pub(crate) filters: Filters,
}

impl Daemon {
    /// Removes what earlier builds left for later ones.
    pub(crate) async fn prune_build_cache(&self, prune: &PruneBuild) -> Result<Pruned, ApiError> {
        let until = until(&prune.filters)?;
        let unused = |step: &CachedStep| {
            until.is_none_or(|until| Timestamp::try_from(step.last_used).is_ok_and(|used| used < until))
        };
        let shared = prune.filters.flag("shared")?;
        let chosen = |layer: &CachedLayer| {
            (prune.all || !layer.shared)
                && unused(&layer.step)
                && shared.is_none_or(|shared| shared == layer.shared)
                && prune.filters.any("id", |id| layer.step.id.starts_with(id))
                && prune.filters.any("description", |text| layer.step.description.contains(text))
                && prune.filters.any("type", |kind| kind == "regular")
        };
        let layers: Vec<CachedLayer> =
            self.engine().build_cache_layers().await?.into_iter().filter(chosen).collect();
        let steps = match prune.keep {
            Some(keep) => engine::beyond(&layers, keep, usize::MAX),
            None => layers.into_iter().map(|layer| layer.step).collect(),
        };
        let removed: Vec<String> = steps.iter().map(|step| step.id.clone()).collect();
        if removed.is_empty() {
            return Ok(Pruned::default());
        }
        let reclaimed = self.engine().prune_build_cache(steps).await?;
        Ok(Pruned { removed, untagged: Vec::new(), bytes: reclaimed.bytes })
    }
}

/// The filter `until`: a time, or how long ago (`24h`, `10m30s`).
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>, ApiError> {
    let [text] = filters.get("until") else { return Ok(None) };
    let invalid = || ApiError::Invalid(format!("invalid filter 'until={text}'"));
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Some(time));
    }
    if let Ok(seconds) = text.parse() {
        return Timestamp::from_second(seconds).map(Some).map_err(|_| invalid());
    }
    let ago: SignedDuration = text.parse().map_err(|_| invalid())?;
    Timestamp::now().checked_sub(ago).map(Some).map_err(|_| invalid())
}
