use axum::body::{Body, Bytes};
use axum::response::Response;
use base64::Engine as _;
use engine::image::{Credentials, Platform, PullEvent};
use engine_types::Reference;
use futures::StreamExt as _;
use futures::stream::unfold;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use crate::act::{Daemon, PullRequest, pull_progress};
use crate::error::ApiError;
use crate::parse::Call;
use crate::{render, stream};

/// Lines of progress that wait for a client that does not keep up; further ones are not told.
const PROGRESS_MAX: usize = 256;

/// What clients send along with a pull, in base64 (Docker's `AuthConfig`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Auth {
    username: String,
    password: String,
    identitytoken: String,
}

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
    let (archive, copy) = reader(call.body)?;
    let (loaded, copied) = tokio::join!(daemon.load(archive), copy);
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
            pull(daemon, PullRequest { reference, platform, credentials: credentials(&call)? }).await
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
    let (rootfs, copy) = reader(call.body)?;
    let (imported, copied) = tokio::join!(daemon.import(rootfs, comment, reference), copy);
    copied?;
    let id = imported?;
    Ok(render::stream("application/json", Body::from(format!("{}\n", json!({ "status": id.to_string() })))))
}

/// A request's body as a reader for blocking work, and what copies it there.
fn reader(
    body: Body,
) -> Result<(std::os::unix::net::UnixStream, impl Future<Output = Result<(), ApiError>>), ApiError> {
    let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    let mut writer = tokio::net::UnixStream::from_std(writer)?;
    let copy = async move {
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|e| ApiError::Invalid(format!("the request's body: {e}")))?;
            if writer.write_all(&piece).await.is_err() {
                break; // whoever reads has given up, and says why
            }
        }
        Ok(())
    };
    Ok((reader, copy))
}

/// A pull that fails before it has told anything is answered by its error alone.
async fn pull(daemon: &Daemon, request: PullRequest) -> Result<Response, ApiError> {
    let (sender, mut lines) = mpsc::channel::<Value>(PROGRESS_MAX);
    let (daemon, told) = (daemon.clone(), sender.clone());
    let task = tokio::spawn(async move {
        let render = pull_progress(&request.reference);
        // A client that does not keep up misses steps, not the end.
        let progress =
            |event: PullEvent| render(event).into_iter().for_each(|line| drop(told.try_send(line)));
        daemon.pull(&request, &progress).await
    });
    drop(sender);
    let mut task = Pulling(task);
    let first = lines.recv().await;
    if first.is_none() {
        task.result().await?;
    }
    let body = Body::from_stream(unfold((first, lines, Some(task)), async |(first, mut lines, task)| {
        let line = match first {
            Some(line) => Some(line),
            None => lines.recv().await,
        };
        match (line, task) {
            (Some(line), task) => Some((text(&line), (None, lines, task))),
            (None, Some(mut task)) => {
                let error = task.result().await.err()?;
                let message = error.message();
                let line = json!({ "errorDetail": { "message": message }, "error": message });
                Some((text(&line), (None, lines, None)))
            }
            (None, None) => None,
        }
    }));
    Ok(render::stream("application/json", body))
}

/// A line of progress.
fn text(line: &Value) -> Result<Bytes, std::convert::Infallible> {
    Ok(Bytes::from(format!("{line}\n")))
}

/// A pull that stops when nobody waits for it any more.
struct Pulling(tokio::task::JoinHandle<Result<(), ApiError>>);

impl Pulling {
    async fn result(&mut self) -> Result<(), ApiError> {
        match (&mut self.0).await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn reference(name: &str, tag: Option<&str>) -> Result<Reference, ApiError> {
    let text = match tag {
        Some(digest) if digest.starts_with("sha256:") => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        None => name.to_owned(),
    };
    text.parse().map_err(|e: engine_types::ParseReferenceError| ApiError::Invalid(e.to_string()))
}

fn platform(text: &str) -> Result<Platform, ApiError> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, architecture, variant) = match parts.as_slice() {
        [os, architecture] => (*os, *architecture, None),
        [os, architecture, variant] => (*os, *architecture, Some((*variant).to_owned())),
        _ => return Err(ApiError::Invalid(format!("invalid platform: {text:?}"))),
    };
    Ok(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant })
}

fn credentials(call: &Call) -> Result<Option<Credentials>, ApiError> {
    let Some(header) = call.headers.get("X-Registry-Auth") else { return Ok(None) };
    let invalid = || ApiError::Invalid("invalid X-Registry-Auth header".to_owned());
    let text = header.to_str().map_err(|_| invalid())?.trim_end_matches('=');
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let decoded = engine.decode(text).map_err(|_| invalid())?;
    let auth: Auth = serde_json::from_slice(&decoded).map_err(|_| invalid())?;
    if !auth.identitytoken.is_empty() {
        return Err(ApiError::Unsupported("an identity token for a registry".to_owned()));
    }
    let Auth { username, password, .. } = auth;
    Ok(Some(Credentials { username, password }).filter(|c| !c.username.is_empty()))
}
