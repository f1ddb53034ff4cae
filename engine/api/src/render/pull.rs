use std::sync::atomic::{AtomicBool, Ordering};

use engine::image::PullEvent;
use engine_types::{Digest, Reference};
use serde_json::{Value, json};

/// Tells of a pull in Docker's words.
#[derive(Debug)]
pub(crate) struct PullLines {
    name: String,
    tag: String,
    repository: String,
    started: AtomicBool,
}

impl PullLines {
    pub(crate) fn new(reference: &Reference) -> Self {
        Self {
            name: reference.to_string(),
            tag: reference.tag().unwrap_or_default().to_owned(),
            repository: repository(reference),
            started: AtomicBool::new(false),
        }
    }

    /// The lines of a step of the pull; none where Docker has none.
    pub(crate) fn take(&self, event: PullEvent) -> Vec<Value> {
        let mut lines = Vec::new();
        let talks = !matches!(event, PullEvent::Resolving { .. } | PullEvent::MirrorFailed { .. });
        if talks && !self.started.swap(true, Ordering::Relaxed) {
            lines.push(json!({ "status": format!("Pulling from {}", self.repository), "id": self.tag }));
        }
        match event {
            PullEvent::Resolving { .. } | PullEvent::MirrorFailed { .. } | PullEvent::LayerResumed { .. } => {
            }
            PullEvent::LayerExists { blob } => lines.push(layer(blob, "Already exists")),
            PullEvent::LayerStarted { blob, .. } => lines.push(layer(blob, "Pulling fs layer")),
            PullEvent::LayerProgress { blob, received, size } => lines.push(json!({
                "status": "Downloading", "id": blob.short(),
                "progressDetail": { "current": received, "total": size },
                "progress": super::human::progress(received, size),
            })),
            PullEvent::LayerExtracting { blob } => lines.push(layer(blob, "Download complete")),
            PullEvent::LayerDone { blob } => lines.push(layer(blob, "Pull complete")),
            PullEvent::Done { digest, up_to_date } => {
                let what = if up_to_date { "Image is up to date" } else { "Downloaded newer image" };
                lines.push(json!({ "status": format!("Digest: {digest}") }));
                lines.push(json!({ "status": format!("Status: {what} for {}", self.name) }));
            }
        }
        lines
    }
}

/// A repository as progress names it.
pub(super) fn repository(reference: &Reference) -> String {
    match reference.registry() {
        "docker.io" => reference.repository().to_owned(),
        registry => format!("{registry}/{}", reference.repository()),
    }
}

pub(super) fn layer(blob: Digest, status: &str) -> Value {
    json!({ "status": status, "progressDetail": {}, "id": blob.short() })
}
