use std::collections::HashSet;

use engine_image::{ChainId, Reclaimed};
use engine_types::{ErrorKind, ImageId, Reference};

use crate::engine::{Engine, blocking};
use crate::error::Error;

/// What became of an image that was to be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovedImage {
    /// Names that it no longer has.
    pub untagged: Vec<Reference>,
    /// The image itself, if that was its last name.
    pub deleted: Option<ImageId>,
}

impl Engine {
    /// Takes a name away from an image, and removes the image with its last one. Named by its id, it goes with its
    /// only name, too. Layers that nothing else needs go with it. With `force` an image that containers need, none of which
    /// runs, loses its names, and stays for them without one.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage, Error> {
        let image = self.images().resolve(name)?;
        let references = self.images().references_of(image.id)?;
        let own = name.parse::<Reference>().ok().filter(|reference| references.contains(reference));
        let untagged = match own {
            Some(reference) => vec![reference],
            None if references.iter().filter(|reference| reference.digest().is_none()).count() > 1 => {
                return Err(Error::SeveralNames(image.id));
            }
            None => references.clone(),
        };
        // What the image was pulled by goes with the last tag of its repository.
        let goes = |reference: &Reference| {
            let same = |other: &Reference| other.familiar_name() == reference.familiar_name();
            let others = references.iter().filter(|other| same(other) && other.digest().is_none());
            let tags_go = others.into_iter().all(|other| untagged.contains(other));
            untagged.contains(reference)
                || (reference.digest().is_some() && untagged.iter().any(same) && tags_go)
        };
        let last = references.iter().all(goes);
        let mut users = self.containers().await?;
        users.retain(|container| container.config.image == image.id);
        let (running, stopped): (Vec<_>, Vec<_>) = users.iter().partition(|container| container.running);
        // What runs keeps it by its id; a name may go in any case.
        let refusing = if force && !untagged.is_empty() { None } else { stopped.first() };
        if let Some(container) = running.first().or(refusing).filter(|_| last) {
            let forced = running.is_empty();
            return Err(Error::ImageInUse { image: image.id, container: container.name.clone(), forced });
        }
        for reference in &untagged {
            match self.images().untag(reference) {
                // It went with the last tag of its repository.
                Err(e) if e.kind() == ErrorKind::NotFound && reference.digest().is_some() => {}
                other => drop(other?),
            }
        }
        if !last || !users.is_empty() {
            return Ok(RemovedImage { untagged, deleted: None });
        }
        self.images().remove(image.id)?;
        self.collect_images().await?;
        Ok(RemovedImage { untagged, deleted: Some(image.id) })
    }

    /// Removes layers and blobs that no image, no container and no step of the build cache needs.
    pub async fn collect_images(&self) -> Result<Reclaimed, Error> {
        let mut in_use: HashSet<ChainId> = self.cached_chains()?;
        for container in self.containers().await? {
            match self.images().get(container.config.image) {
                Ok(image) => in_use.extend(image.layers.iter().map(|layer| layer.chain_id)),
                Err(e) if e.kind() == ErrorKind::NotFound => {} // a build's command: the build holds the store
                Err(e) => return Err(e.into()),
            }
        }
        let images = self.images().clone();
        Ok(blocking(move || images.collect(&in_use)).await?)
    }
}
