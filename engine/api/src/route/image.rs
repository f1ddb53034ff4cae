use axum::body::Body;
use axum::response::Response;
use engine::image::PullEvent;
use engine_types::Reference;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::progress;
use crate::act::{Daemon, PullRequest, Upload};
use crate::error::ApiError;
use crate::parse::{Call, platform, registry_auth};
use crate::render::PullLines;
use crate::{render, stream};

pub(super) async fn list(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&["dangling", "label", "reference"])?;
    let dangling = filters.flag("dangling")?;
    let named = |pattern: &str, name: &Reference| {
        let (repository, text) = (name.familiar_name(), name.to_string());
        [repository.as_str(), text.as_str()].iter().any(|name| matches(pattern, name))
    };
    let images = daemon.images().await?;
    let chosen = images.iter().filter(|(image, _)| {
        filters.labels(&image.labels)
            && dangling.is_none_or(|dangling| dangling == image.references.is_empty())
            && filters.any("reference", |pattern| image.references.iter().any(|name| named(pattern, name)))
    });
    let all: Vec<Value> = chosen.map(|(image, _)| render::image_summary(image, -1, call.version)).collect();
    Ok(render::ok(&all))
}

/// Whether a name fits a pattern in which `*` stands for any characters but slashes.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
            ends.take_while(|&at| !name[..at].contains('/')).any(|at| matches(rest, &name[at..]))
        }),
    }
}

pub(super) fn inspect(daemon: &Daemon, call: Call, name: &str) -> Result<Response, ApiError> {
    let image = daemon.engine().images().resolve(name)?;
    let references = daemon.engine().images().references_of(image.id)?;
    Ok(render::ok(&render::image(&image, &references, call.version)))
}

pub(super) fn history(daemon: &Daemon, name: &str) -> Result<Response, ApiError> {
    let image = daemon.engine().images().resolve(name)?;
    let references = daemon.engine().images().references_of(image.id)?;
    Ok(render::ok(&render::history(&image, &references)))
}

pub(super) async fn tag(daemon: &Daemon, call: Call, name: &str) -> Result<Response, ApiError> {
    let repository = call.query.text("repo").unwrap_or_default();
    daemon.tag(name, &reference(repository, call.query.text("tag"))?).await?;
    Ok(axum::response::IntoResponse::into_response(axum::http::StatusCode::CREATED))
}

pub(super) async fn remove(daemon: &Daemon, call: Call, name: &str) -> Result<Response, ApiError> {
    let removed = daemon.remove_image(name, call.query.flag("force")).await?;
    let untagged = removed.untagged.iter().map(|name| json!({ "Untagged": name.to_string() }));
    let deleted = removed.deleted.iter().map(|id| json!({ "Deleted": id.to_string() }));
    Ok(render::ok(&untagged.chain(deleted).collect::<Vec<_>>()))
}

pub(super) async fn prune(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&["dangling", "label", "label!", "until"])?;
    let pruned = daemon.prune_images(&filters).await?;
    let untagged = pruned.untagged.iter().map(|name| json!({ "Untagged": name }));
    let deleted = pruned.removed.iter().map(|id| json!({ "Deleted": id }));
    let all: Vec<Value> = untagged.chain(deleted).collect();
    Ok(render::ok(&json!({ "ImagesDeleted": all, "SpaceReclaimed": pruned.bytes })))
}

pub(super) fn save(daemon: &Daemon, call: Call, name: Option<String>) -> Result<Response, ApiError> {
    let names: Vec<String> = match name {
        Some(name) => vec![name],
        None => call.query.all("names").to_vec(),
    };
    if names.is_empty() {
        return Err(ApiError::Invalid("no images were named".to_owned()));
    }
    Ok(render::stream("application/x-tar", stream::body(daemon.save(&names)?)))
}

pub(super) async fn load(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let Upload { reader, copy } = reader(call.body)?;
    let (loaded, copied) = tokio::join!(daemon.load(reader), copy);
    copied?;
    let loaded = loaded?;
    let mut text = String::new();
    for one in loaded {
        let names = one.references.iter().map(|name| format!("Loaded image: {name}\n"));
        let id = one.references.is_empty().then(|| format!("Loaded image ID: {}\n", one.image.id));
        for line in names.chain(id) {
            text.push_str(&format!("{}\n", json!({ "stream": line })));
        }
    }
    Ok(render::stream("application/json", Body::from(text)))
}

/// `images/create` is a pull, or, with `fromSrc`, an import.
pub(super) async fn create(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let tag = call.query.text("tag").map(str::to_owned);
    match (call.query.text("fromImage"), call.query.text("fromSrc")) {
        (Some(name), _) => {
            let reference = reference(name, tag.as_deref())?;
            let platform = call.query.text("platform").map(platform).transpose()?;
            let credentials = registry_auth(&call.headers)?;
            pull(daemon, PullRequest { reference, platform, credentials }).await
        }
        (None, Some("-")) => import(daemon, call, tag.as_deref()).await,
        (None, Some(_)) => Err(ApiError::Unsupported("importing from a URL".to_owned())),
        (None, None) => Err(ApiError::Invalid("neither fromImage nor fromSrc was given".to_owned())),
    }
}

async fn import(daemon: &Daemon, call: Call, tag: Option<&str>) -> Result<Response, ApiError> {
    if !call.query.all("changes").is_empty() {
        return Err(ApiError::Unsupported("--change of import".to_owned()));
    }
    let reference = call.query.text("repo").map(|name| reference(name, tag)).transpose()?;
    let comment = call.query.text("message").map(str::to_owned);
    let Upload { reader: rootfs, copy } = reader(call.body)?;
    let (imported, copied) = tokio::join!(daemon.import(rootfs, comment, reference), copy);
    copied?;
    let id = imported?;
    Ok(render::stream("application/json", Body::from(format!("{}\n", json!({ "status": id.to_string() })))))
}

/// A request's body as a reader for blocking work, and what copies it there.
pub(super) fn reader(body: Body) -> Result<Upload, ApiError> {
    let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    let mut writer = tokio::net::UnixStream::from_std(writer)?;
    let copy = Box::pin(async move {
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| ApiError::Invalid(format!("the request's body: {e}")))?;
            if writer.write_all(&piece).await.is_err() {
                break; // whoever reads has given up, and says why
            }
        }
        Ok(())
    });
    Ok(Upload { reader, copy })
}

async fn pull(daemon: &Daemon, request: PullRequest) -> Result<Response, ApiError> {
    let daemon = daemon.clone();
    progress::answer(|progress| async move {
        let lines = PullLines::new(&request.reference);
        let tell = |event: PullEvent| lines.take(event).iter().for_each(|line| progress.tell(line));
        daemon.pull(&request, &tell).await
    })
    .await
}

fn reference(name: &str, tag: Option<&str>) -> Result<Reference, ApiError> {
    let text = match tag {
        Some(digest) if digest.starts_with("sha256:") => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    };
    text.parse().map_err(|e: engine_types::ParseReferenceError| ApiError::Invalid(e.to_string()))
}
