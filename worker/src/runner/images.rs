use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use engine_image::{PullEvent, PullOptions};
use engine_types::{Digest, ErrorKind, ImageId, Reference};
use pipelines::Image;
use tokio::sync::OnceCell;

use super::attempt::{Attempt, Failure};
use super::containers::set_up;
use super::run::Settings;
use crate::event::{Event, Level, Phase};

/// The images of a run: each is pulled or built once, by the job that needs it first.
pub(super) struct Images {
    /// By the image as the file has it.
    known: Mutex<HashMap<String, Arc<OnceCell<ImageId>>>>,
    registries: engine_image::Registries,
}

impl Images {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { known: Mutex::default(), registries: settings.registries.clone() }
    }

    /// Finds, pulls or builds an image.
    pub(super) async fn get(&self, attempt: &Attempt<'_>, image: &Image) -> Result<ImageId, Failure> {
        let key = format!("{image:?}");
        let cell = Arc::clone(self.known.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        let id = cell.get_or_try_init(|| async {
            match image {
                Image::Reference(name) => self.pull(attempt, name).await,
                Image::Build { build } => self.build(attempt, build).await,
            }
        });
        id.await.copied()
    }

    async fn pull(&self, attempt: &Attempt<'_>, name: &str) -> Result<ImageId, Failure> {
        let store = attempt.settings.engine.images();
        match store.resolve(name) {
            Ok(image) => return Ok(image.id),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(set_up(&format!("image {name}"), &e)),
        }
        attempt.phase(Phase::Pull(name.to_owned()));
        let reference: Reference = name.parse().map_err(|e| set_up(&format!("image {name}"), &e))?;
        let options = PullOptions { registries: self.registries.clone(), platform: None };
        let progress = PullProgress::new(attempt, name);
        let pulled = store.pull(&reference, &options, &|event| progress.take(event)).await;
        pulled.map(|image| image.id).map_err(|e| set_up(&format!("image {name}"), &e))
    }
}

/// Adds up the layers of a pull.
struct PullProgress<'a> {
    attempt: &'a Attempt<'a>,
    image: &'a str,
    /// Bytes received and bytes in all, by layer.
    layers: Mutex<HashMap<Digest, (u64, u64)>>,
}

impl<'a> PullProgress<'a> {
    fn new(attempt: &'a Attempt<'a>, image: &'a str) -> Self {
        Self { attempt, image, layers: Mutex::default() }
    }

    fn take(&self, event: PullEvent) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            PullEvent::LayerStarted { blob, size } => drop(layers.insert(blob, (0, size))),
            PullEvent::LayerProgress { blob, received } => {
                if let Some(layer) = layers.get_mut(&blob) {
                    layer.0 = received;
                }
            }
            PullEvent::MirrorFailed { registry, reason } => {
                return self.attempt.notice(Level::Warning, format!("mirror {registry}: {reason}"));
            }
            _ => return,
        }
        let (received, total) = layers.values().fold((0, 0), |(r, t), layer| (r + layer.0, t + layer.1));
        let (job, image) = (self.attempt.job.id.clone(), self.image.to_owned());
        self.attempt.settings.reporter.report(Event::PullProgress { job, image, received, total });
    }
}
