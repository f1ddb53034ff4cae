use axum::body::Body;
use axum::response::Response;
use engine::Commit;
use engine::image::{ImageSummary, Platform, PullEvent};
use engine_types::Reference;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::progress;
use crate::act::{Daemon, PullRequest};
use crate::error::ApiError;
use crate::parse::{Auth, Call, platform, registry_auth};
use crate::render;
use crate::render::PullLines;
use crate::transfer::Upload;

pub(super) async fn list(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&["before", "dangling", "label", "reference", "since", "until"])?;
    let dangling = filters.flag("dangling")?;
    let time = |name: &str| filters.get(name).first().map(|image| daemon.image_created(image)).transpose();
    let (before, since, until) = (time("before")?, time("since")?, crate::act::until(&filters)?);
    let named = |pattern: &str, name: &Reference| {
        let (repository, text) = (name.familiar_name(), name.to_string());
        [repository.as_str(), text.as_str()].iter().any(|name| matches(pattern, name))
    };
    let created = |image: &ImageSummary| {
        let time = image.created.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        time.unwrap_or(Timestamp::UNIX_EPOCH) // an image that does not say is older than any
    };
    let images = daemon.images().await?;
    let chosen = images.iter().filter(|(image, _)| {
        filters.labels(&image.labels)
            && dangling.is_none_or(|dangling| dangling == image.references.is_empty())
            && [before, until].into_iter().flatten().all(|end| created(image) < end)
            && since.is_none_or(|since| created(image) > since)
            && filters.any("reference", |pattern| image.references.iter().any(|name| named(pattern, name)))
    });
    // Of an image with several names those are told that were asked for.
    let is_asked = |name: &Reference| filters.any("reference", |pattern| named(pattern, name));
    let shown = chosen.map(|(image, _)| {
        let mut image = image.clone();
        image.references.retain(is_asked);
        render::image_summary(&image, -1, call.version)
    });
    Ok(render::ok(&shown.collect::<Vec<Value>>()))
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
    let bytes = daemon.layer_bytes(&image)?;
    Ok(render::ok(&render::history(&image, &references, &bytes)))
}

/// A push of one tag, or of all that the repository has.
pub(super) async fn push(daemon: &Daemon, call: Call, name: &str) -> Result<Response, ApiError> {
    let credentials = registry_auth(&call.headers)?;
    let repository = reference(name, None)?;
    let references = match call.query.text("tag") {
        Some(tag) => vec![reference(name, Some(tag))?],
        None => daemon.tags_of(&repository)?,
    };
    let daemon = daemon.clone();
    progress::answer(|progress| async move {
        progress.tell(&render::push_begins(&repository));
        if references.is_empty() {
            let name = repository.familiar_name();
            return Err(ApiError::NotFound(format!("An image does not exist locally with the tag: {name}")));
        }
        let tell = |event| render::push_lines(event).iter().for_each(|line| progress.tell(line));
        for reference in &references {
            let pushed = daemon.push(reference, credentials.as_ref(), &tell).await?;
            render::pushed(reference, &pushed).iter().for_each(|line| progress.tell(line));
        }
        Ok(())
    })
    .await
}

pub(super) async fn distribution(daemon: &Daemon, call: Call, name: &str) -> Result<Response, ApiError> {
    let credentials = registry_auth(&call.headers)?;
    let found = daemon.distribution(&reference(name, None)?, credentials.as_ref()).await?;
    Ok(render::ok(&json!({ "Descriptor": found.descriptor, "Platforms": found.platforms })))
}

/// Repositories asked for where nobody says how many, and the most; Docker's.
const SEARCH_LIMIT: u32 = 25;
const SEARCH_MAX: u32 = 100;

pub(super) async fn search(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&["is-automated", "is-official", "stars"])?;
    let (official, automated) = (filters.flag("is-official")?, filters.flag("is-automated")?);
    let invalid = || ApiError::Invalid(format!("invalid filter 'stars={}'", filters.get("stars").join(",")));
    let stars: Vec<u64> = filters
        .get("stars")
        .iter()
        .map(|text| text.parse().map_err(|_| invalid()))
        .collect::<Result<_, _>>()?;
    let limit = call.query.number("limit")?.filter(|&limit| limit > 0).unwrap_or(SEARCH_LIMIT);
    if limit > SEARCH_MAX {
        return Err(ApiError::Invalid(format!("limit {limit} is outside the range of [1, {SEARCH_MAX}]")));
    }
    let term = call.query.text("term").unwrap_or_default();
    let found = daemon.search(term, limit).await?;
    let chosen = found.iter().filter(|one| {
        official.is_none_or(|official| official == one.is_official)
            && automated.is_none_or(|automated| automated == one.is_automated)
            && stars.iter().all(|&least| one.star_count >= least)
    });
    let all: Vec<Value> = chosen
        .map(|one| {
            json!({
                "name": one.name, "description": one.description, "star_count": one.star_count,
                "is_official": one.is_official, "is_automated": one.is_automated,
            })
        })
        .collect();
    Ok(render::ok(&all))
}

pub(super) async fn log_in(daemon: &Daemon, mut call: Call) -> Result<Response, ApiError> {
    let auth: Auth = call.json().await?;
    let registry = auth.registry();
    let credentials =
        auth.credentials()?.ok_or_else(|| ApiError::Invalid("no username was given".to_owned()))?;
    daemon.log_in(&registry, &credentials).await?;
    Ok(render::ok(&json!({ "Status": "Login Succeeded", "IdentityToken": "" })))
}

pub(super) async fn commit(daemon: &Daemon, mut call: Call) -> Result<Response, ApiError> {
    let config = call.json().await?;
    let query = &call.query;
    let named = query.text("repo").map(|repository| reference(repository, query.text("tag"))).transpose()?;
    let commit = Commit {
        reference: named,
        author: query.text("author").map(str::to_owned),
        comment: query.text("comment").unwrap_or_default().to_owned(),
        changes: query.all("changes").to_vec(),
        config,
    };
    let pause = query.text("pause").is_none() || query.flag("pause");
    let missing = || ApiError::Invalid("no container was named".to_owned());
    let id = daemon.commit(query.text("container").ok_or_else(missing)?, commit, pause).await?;
    Ok(render::json(axum::http::StatusCode::CREATED, &json!({ "Id": id.to_string() })))
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
    Ok(render::stream("application/x-tar", daemon.save(&names)?))
}

pub(super) async fn load(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let Upload { reader, copy } = Upload::new(call.body);
    let (loaded, copied) = tokio::join!(daemon.load(reader), copy);
    copied?;
    let loaded = match loaded {
        Ok(loaded) => loaded,
        // Docker has answered by the time that it reads the archive, and tells of failures in its stream.
        Err(error) => {
            let text = error.message();
            let line = format!("{}\n", json!({ "errorDetail": { "message": text }, "error": text }));
            return Ok(render::stream("application/json", Body::from(line)));
        }
    };
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
    let changes = call.query.all("changes").to_vec();
    let platform = call.query.text("platform").map(platform).transpose()?.unwrap_or_else(Platform::host);
    let reference = call.query.text("repo").map(|name| reference(name, tag)).transpose()?;
    let comment = call.query.text("message").map(str::to_owned);
    let Upload { reader: rootfs, copy } = Upload::new(call.body);
    let (imported, copied) =
        tokio::join!(daemon.import(rootfs, comment, reference, &changes, platform), copy);
    copied?;
    let id = imported?;
    Ok(render::stream("application/json", Body::from(format!("{}\n", json!({ "status": id.to_string() })))))
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
