use std::io::Read;

use engine::image::{
    ArchiveFormat, Credentials, History, ImageConfig, ImageSummary, Loaded, Platform, PullEvent, PullOptions,
};
use engine::{Error, EventKind, RemovedImage};
use engine_types::{ErrorKind, ImageId, Reference};
use tokio::net::UnixStream;

use super::{Daemon, blocking};
use crate::error::ApiError;

/// What is to be pulled, as whom.
#[derive(Debug)]
pub(crate) struct PullRequest {
    pub(crate) reference: Reference,
    pub(crate) platform: Option<Platform>,
    pub(crate) credentials: Option<Credentials>,
}

impl Daemon {
    /// An image that a container is to be made of. Docker names the image in full where it is missing.
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

    pub(crate) async fn tag(&self, name: &str, reference: &Reference) -> Result<(), ApiError> {
        let image = self.engine().images().resolve(name)?;
        self.engine().images().tag(image.id, reference)?;
        self.record(EventKind::Image, "tag", &image.id.to_string(), &[("name", &reference.to_string())]).await
    }

    /// Removes a name or an image; `force` takes all names of one that is given by its id.
    pub(crate) async fn remove_image(&self, name: &str, force: bool) -> Result<RemovedImage, ApiError> {
        let removed = match self.engine().remove_image(name).await {
            Err(Error::SeveralNames(id)) if force => {
                let mut all = RemovedImage::default();
                for reference in self.engine().images().references_of(id)? {
                    match self.engine().remove_image(&reference.to_string()).await {
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
        let registries = self.engine().settings().registries.clone();
        let mut options = PullOptions { platform: request.platform.clone(), registries };
        if let Some(credentials) = &request.credentials {
            let registry = request.reference.registry().to_owned();
            options.registries.credentials.insert(registry, credentials.clone());
        }
        let images = self.engine().images().clone();
        images.pull(&request.reference, &options, progress).await.map_err(Error::from)?;
        blocking(move || images.sync()).await?;
        let name = request.reference.to_string();
        self.record(EventKind::Image, "pull", &name, &[("name", &name)]).await
    }

    pub(crate) async fn load(&self, archive: impl Read + Send + 'static) -> Result<Vec<Loaded>, ApiError> {
        let images = self.engine().images().clone();
        let loaded = blocking(move || {
            let loaded = images.load(archive)?;
            images.sync()?;
            Ok::<_, ApiError>(loaded)
        });
        let loaded = loaded.await?;
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
    ) -> Result<ImageId, ApiError> {
        let platform = Platform::host();
        let created = Some(jiff::Timestamp::now().to_string());
        let comment = comment.or_else(|| Some("Imported from -".to_owned()));
        let history = History { created: created.clone(), comment: comment.clone(), ..History::default() };
        let config = ImageConfig {
            architecture: platform.architecture,
            os: platform.os,
            created,
            comment,
            history: vec![history],
            ..ImageConfig::default()
        };
        let images = self.engine().images().clone();
        let imported = blocking(move || {
            let image = images.import(rootfs, config, reference.as_ref())?;
            images.sync()?;
            Ok::<_, ApiError>(image.id)
        });
        let id = imported.await?;
        self.record(EventKind::Image, "import", &id.to_string(), &[]).await?;
        Ok(id)
    }

    /// An archive of images, as it is written.
    pub(crate) fn save(&self, names: &[String]) -> Result<UnixStream, ApiError> {
        let images = self.engine().images().clone();
        let mut chosen = Vec::new();
        for name in names {
            let image = images.resolve(name)?;
            let reference: Option<Reference> = name.parse().ok();
            let named = reference.filter(|r| images.lookup(r).is_ok_and(|id| id == Some(image.id)));
            chosen.push((image, named.into_iter().collect()));
        }
        let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        tokio::task::spawn_blocking(move || {
            let writer = std::io::BufWriter::new(writer);
            if let Err(error) = images.save(&chosen, writer, ArchiveFormat::Docker) {
                // The client sees the archive end early.
                tracing::warn!(error = &error as &dyn std::error::Error, "an image archive is cut short");
            }
        });
        Ok(UnixStream::from_std(reader)?)
    }

    /// The bytes of all images' files.
    pub(crate) fn image_bytes(summaries: &[(ImageSummary, i64)]) -> u64 {
        summaries.iter().map(|(summary, _)| summary.file_bytes).sum()
    }
}
