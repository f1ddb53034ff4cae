use engine::image::{PushEvent, Pushed};
use engine_types::{Digest, Reference};
use serde_json::{Value, json};

use super::pull::{layer, repository};

/// What a push begins with.
pub(crate) fn push_begins(reference: &Reference) -> Value {
    let host = if reference.registry() == "docker.io" { "docker.io/" } else { "" };
    json!({ "status": format!("The push refers to repository [{host}{}]", repository(reference)) })
}

/// Tells of a push in Docker's words.
pub(crate) fn push_lines(event: PushEvent) -> Vec<Value> {
    let of = |layer: Digest, status: &str| vec![self::layer(layer, status)];
    match event {
        PushEvent::Layers(layers) => layers.iter().map(|one| layer(one.0, "Preparing")).collect(),
        PushEvent::Exists(one) => of(one.0, "Layer already exists"),
        PushEvent::Mounted { layer, from } => of(layer.0, &format!("Mounted from {from}")),
        PushEvent::Progress { layer, sent, size } => vec![json!({
            "status": "Pushing", "id": layer.0.short(),
            "progressDetail": { "current": sent, "total": size },
            "progress": super::human::progress(sent, size),
        })],
        PushEvent::Sent(one) => of(one.0, "Pushed"),
    }
}

/// What a push ends with.
pub(crate) fn pushed(reference: &Reference, pushed: &Pushed) -> Vec<Value> {
    let (tag, Pushed { digest, size }) = (reference.tag().unwrap_or("latest"), pushed);
    let aux = json!({ "Tag": tag, "Digest": digest.to_string(), "Size": size });
    vec![
        json!({ "status": format!("{tag}: digest: {digest} size: {size}") }),
        json!({ "progressDetail": {}, "aux": aux }),
    ]
}
