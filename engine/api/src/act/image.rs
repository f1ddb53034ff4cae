use std::io::Read;
use std::sync::atomic::Ordering;

use axum::body::Body;

use engine::image::{
    ArchiveFormat, Credentials, Distribution, Found, History, Image, ImageConfig, ImageSummary, Loaded,
    Platform, PullEvent, PullOptions, PushEvent, Pushed, Registries,
};
use engine::{Commit, Error, EventKind, RemovedImage};
use engine_types::{ErrorKind, ImageId, Reference};

use super::{Daemon, blocking};
use crate::error::ApiError;
use crate::transfer::Download;

/// What is to be pulled, as whom.
#[derive(Debug)]
pub(crate) struct PullRequest {
    pub(crate) reference: Reference,
    pub(crate) platform: Option<Platform>,
    pub(crate) credentials: Option<Credentials>,
}

impl Daemon {
    /// An image that a container is to be made of. Docker names the image in full where it is missing.
    /// Fails unless an image is for the platform that is asked for; a warning if none is and it is not for this host.
    pub(crate) fn check_platform(
        &self,
        name: &str,
        image: ImageId,
        asked: Option<&str>,
    ) -> Result<Option<String>, ApiError> {
        let config = self.engine().images().get(image)?.config;
        let own = format!("{}/{}", config.os, config.architecture);
        // A variant is not compared: images seldom name theirs.
        let plain = |text: &str| text.to_ascii_lowercase().split('/').take(2).collect::<Vec<_>>().join("/");
        let host = Platform::host();
        let host = format!("{}/{}", host.os, host.architecture);
        match asked {
            Some(asked) if plain(asked) != own && plain(asked) != config.os => {
                Err(ApiError::NotFound(format!(
                    "image with reference {name} was found but its platform ({own}) does not match the specified \
                     platform ({asked})"
                )))
            }
            None if own != host && !config.architecture.is_empty() => Ok(Some(format!(
                "The requested image's platform ({own}) does not match the detected host platform ({host}) and no \
                 specific platform was requested"
            ))),
            _ => Ok(None),
        }
    }

    pub(crate) fn image_for(&self, name: &str) -> Result<ImageId, ApiError> {
        if name.is_empty() {
            return Err(ApiError::Invalid("no image specified".to_owned()));
        }
        Ok(self.engine().images().resolve(name)?.id)
    }

    /// All images, each with the number of containers that were made of it.
    pub(crate) async fn images(&self) -> Result<Vec<(ImageSummary, i64)>, ApiError> {
        let containers = self.engine().containers().await?;
        let images = self.engine().images().clone();
        let all = blocking(move || images.list()).await?;
        let count = |id| containers.iter().filter(|c| c.config.image == id).count();
        let pair = |summary: ImageSummary| {
            let containers = i64::try_from(count(summary.id)).unwrap_or(i64::MAX);
            (summary, containers)
        };
        Ok(all.into_iter().map(pair).collect())
    }

    /// When an image was made; long ago if it does not say.
    pub(crate) fn image_created(&self, name: &str) -> Result<jiff::Timestamp, ApiError> {
        let created = self.engine().images().resolve(name)?.config.created;
        Ok(created.and_then(|text| text.parse().ok()).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }

    pub(crate) async fn tag(&self, name: &str, reference: &Reference) -> Result<(), ApiError> {
        let image = self.engine().images().resolve(name)?;
        self.engine().images().tag(image.id, reference)?;
        self.record(EventKind::Image, "tag", &image.id.to_string(), &[("name", &reference.to_string())]).await
    }

    /// Removes a name or an image; `force` takes all names of one that is given by its id.
    pub(crate) async fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage, ApiError> {
        let removed = match self.engine().remove_image(name, force).await {
            Err(Error::SeveralNames(id)) if force => {
                let mut all = RemovedImage::default();
                for reference in self.engine().images().references_of(id)? {
                    match self.engine().remove_image(&reference.to_string(), true).await {
                        Ok(removed) => {
                            all.untagged.extend(removed.untagged);
                            all.deleted = all.deleted.or(removed.deleted);
                        }
                        // It went with the last tag of its repository.
                        Err(e) if e.kind() == ErrorKind::NotFound => {}
                        Err(e) => return Err(e.into()),
                    }
                }
                all
            }
            result => result?,
        };
        for reference in &removed.untagged {
            self.record(EventKind::Image, "untag", &reference.to_string(), &[]).await?;
        }
        if let Some(id) = removed.deleted {
            self.record(EventKind::Image, "delete", &id.to_string(), &[]).await?;
        }
        Ok(removed)
    }

    /// Pulls an image; what happens is told meanwhile, in order.
    pub(crate) async fn pull(
        &self,
        request: &PullRequest,
        progress: &(dyn Fn(PullEvent) + Sync),
    ) -> Result<(), ApiError> {
        let registries = self.registries(&request.reference, request.credentials.as_ref());
        let options = PullOptions { platform: request.platform.clone(), registries };
        let images = self.engine().images().clone();
        images.pull(&request.reference, &options, progress).await.map_err(Error::from)?;
        self.sync_later();
        let name = request.reference.to_string();
        self.record(EventKind::Image, "pull", &name, &[("name", &name)]).await
    }

    /// Pushes the image that has the name, to the registry that the name says.
    pub(crate) async fn push(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        progress: &(dyn Fn(PushEvent) + Sync),
    ) -> Result<Pushed, ApiError> {
        let images = self.engine().images();
        let missing = || {
            let name = reference.familiar_name();
            ApiError::NotFound(format!("An image does not exist locally with the tag: {name}"))
        };
        let id = images.lookup(reference)?.ok_or_else(missing)?;
        let image = images.get(id)?;
        let registries = self.registries(reference, credentials);
        let pushed = images.push(&image, reference, &registries, progress).await.map_err(Error::from)?;
        let name = reference.to_string();
        self.record(EventKind::Image, "push", &name, &[("name", &name)]).await?;
        Ok(pushed)
    }

    /// The names that a repository has here, with tags.
    pub(crate) fn tags_of(&self, repository: &Reference) -> Result<Vec<Reference>, ApiError> {
        let all = self.engine().images().list()?.into_iter().flat_map(|image| image.references);
        let mut tags: Vec<_> =
            all.filter(|name| name.familiar_name() == repository.familiar_name()).collect();
        tags.sort_unstable();
        Ok(tags)
    }

    /// How registries are reached, with a log-in for the one that the name says.
    fn registries(&self, reference: &Reference, credentials: Option<&Credentials>) -> Registries {
        let mut registries = self.engine().settings().registries.clone();
        if let Some(credentials) = credentials {
            registries.credentials.insert(reference.registry().to_owned(), credentials.clone());
        }
        registries
    }

    /// Asks a registry what a name stands for.
    pub(crate) async fn distribution(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Distribution, ApiError> {
        let registries = self.registries(reference, credentials);
        Ok(self.engine().images().distribution(reference, &registries).await.map_err(Error::from)?)
    }

    /// Asks a registry whether it knows the user.
    pub(crate) async fn log_in(&self, registry: &str, credentials: &Credentials) -> Result<(), ApiError> {
        let registries = &self.engine().settings().registries;
        Ok(registries.check_login(registry, credentials).await.map_err(Error::from)?)
    }

    /// Asks a registry for repositories: Docker Hub, or the one before a term's first slash.
    pub(crate) async fn search(&self, term: &str, limit: u32) -> Result<Vec<Found>, ApiError> {
        let (registry, term) = match term.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => ("docker.io", term),
        };
        let registries = &self.engine().settings().registries;
        Ok(registries.search(registry, term, limit).await.map_err(Error::from)?)
    }

    /// Makes an image of a container, which stands still meanwhile if `pause` says so.
    pub(crate) async fn commit(&self, key: &str, commit: Commit, pause: bool) -> Result<ImageId, ApiError> {
        let container = self.engine().container(key).await?;
        let name = commit.reference.as_ref().map(ToString::to_string).unwrap_or_default();
        let id = container.id.to_string();
        let paused = pause && container.running && self.engine().pause_container(&id).await.is_ok();
        let committed = self.engine().commit_container(&id, commit).await;
        if paused {
            match self.engine().unpause_container(&id).await {
                // It has ended meanwhile.
                Ok(()) | Err(Error::NotRunning(_) | Error::NotPaused(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let image = committed?;
        self.sync_later();
        let attributes = [("comment", name.clone()), ("imageID", image.to_string()), ("imageRef", name)];
        self.engine().record_container(container.id, "commit", &attributes).await?;
        Ok(image)
    }

    /// Has what was stored reach the disk while others go on. A layer that never did is made anew after a restart of the
    /// machine, or goes with its images; nothing is ever taken for whole that is not.
    pub(super) fn sync_later(&self) {
        let due = &self.0.sync_due;
        if due.swap(true, Ordering::AcqRel) {
            return;
        }
        let daemon = self.clone();
        tokio::task::spawn_blocking(move || {
            // What is stored from here on asks again.
            daemon.0.sync_due.store(false, Ordering::Release);
            if let Err(error) = daemon.engine().images().sync() {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(
                    error,
                    "new images may have to be pulled or built again after a power failure"
                );
            }
        });
    }

    /// Bytes of the files of each layer of an image, lowest first.
    pub(crate) fn layer_bytes(&self, image: &Image) -> Result<Vec<u64>, ApiError> {
        let images = self.engine().images();
        let bytes = image.layers.iter().map(|layer| Ok(images.layer(layer.chain_id)?.file_bytes));
        bytes.collect()
    }

    pub(crate) async fn load(&self, archive: impl Read + Send + 'static) -> Result<Vec<Loaded>, ApiError> {
        let images = self.engine().images().clone();
        let loaded = blocking(move || Ok::<_, ApiError>(images.load(archive)?));
        let loaded = loaded.await?;
        self.sync_later();
        for one in &loaded {
            let id = one.image.id.to_string();
            let name = one.references.first().map_or_else(|| id.clone(), ToString::to_string);
            self.record(EventKind::Image, "load", &id, &[("name", &name)]).await?;
        }
        Ok(loaded)
    }

    pub(crate) async fn import(
        &self,
        rootfs: impl Read + Send + 'static,
        comment: Option<String>,
        reference: Option<Reference>,
        changes: &[String],
        platform: Platform,
    ) -> Result<ImageId, ApiError> {
        let created = Some(jiff::Timestamp::now().to_string());
        let comment = comment.or_else(|| Some("Imported from -".to_owned()));
        let history = History { created: created.clone(), comment: comment.clone(), ..History::default() };
        let mut config = ImageConfig {
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            created,
            comment,
            history: vec![history],
            ..ImageConfig::default()
        };
        engine::change(&mut config, changes)?;
        let images = self.engine().images().clone();
        let imported = blocking(move || {
            let image = images.import(rootfs, config, reference.as_ref())?;
            Ok::<_, ApiError>(image.id)
        });
        let id = imported.await?;
        self.sync_later();
        self.record(EventKind::Image, "import", &id.to_string(), &[]).await?;
        Ok(id)
    }

    /// An archive of images, as it is written.
    pub(crate) fn save(&self, names: &[String]) -> Result<Body, ApiError> {
        let images = self.engine().images().clone();
        let mut chosen = Vec::new();
        for name in names {
            let image = images.resolve(name)?;
            let reference: Option<Reference> = name.parse().ok();
            let named = reference.filter(|r| images.lookup(r).is_ok_and(|id| id == Some(image.id)));
            chosen.push((image, named.into_iter().collect()));
        }
        Ok(Download::body(move |out| images.save(&chosen, out, ArchiveFormat::Docker)))
    }

    /// The bytes of all images' files.
    pub(crate) fn image_bytes(summaries: &[(ImageSummary, i64)]) -> u64 {
        summaries.iter().map(|(summary, _)| summary.file_bytes).sum()
    }
}
