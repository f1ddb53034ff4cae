use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use engine::runtime::HealthStatus;
use engine::{Container, ExposedPort};
use futures::stream::once;
use jiff::Timestamp;
use serde_json::json;

use crate::act::{Attached, Daemon, Images, Seen, WaitFor, network_mode};
use crate::error::ApiError;
use crate::parse::{self, Call, Filters};
use crate::render;

/// Filters of the list of containers.
const FILTERS: [&str; 14] = [
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "label", "name", "network",
    "publish", "since", "status", "volume",
];
/// Where a container can be in its life, as the filter `status` has it.
const STATUSES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

pub(super) async fn list(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let (filters, limit) = (call.query.filters()?, call.query.number::<i64>("limit")?);
    filters.expect(&FILTERS)?;
    if let Some(other) = filters.get("status").iter().find(|status| !STATUSES.contains(&status.as_str())) {
        return Err(ApiError::Invalid(format!("invalid filter 'status={other}'")));
    }
    let ports = Ports::parse(&filters)?;
    // Nothing here is a task of a swarm.
    if filters.flag("is-task")? == Some(true) {
        return Ok(render::ok(&json!([])));
    }
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|&limit| limit > 0);
    let all = call.query.flag("all") || limit.is_some() || !filters.get("status").is_empty();
    let all = all || !filters.get("exited").is_empty();
    let between = between(daemon, &filters).await?;
    let ancestors: Vec<_> =
        filters.get("ancestor").iter().filter_map(|name| daemon.image_for(name).ok()).collect();
    let chosen = |container: &Container| {
        (all || container.running)
            && passes(&filters, container)
            && ports.pass(container)
            && (filters.get("ancestor").is_empty() || ancestors.contains(&container.config.image))
            && between.0.is_none_or(|since| container.created > since)
            && between.1.is_none_or(|before| container.created < before)
    };
    let mut summaries = Vec::new();
    let (now, mut images) = (Timestamp::now(), Images::default());
    for container in daemon.engine().containers().await?.into_iter().filter(chosen) {
        let seen = daemon.see(container, &mut images, call.query.flag("size")).await?;
        if filters.labels(&render::labels(&seen)) && in_network_and_volume(&filters, &seen) {
            summaries.push(render::container_summary(&seen, call.version, now));
        }
    }
    summaries.truncate(limit.unwrap_or(usize::MAX));
    Ok(render::ok(&summaries))
}

/// When the containers of the filters `since` and `before` were made.
async fn between(
    daemon: &Daemon,
    filters: &Filters,
) -> Result<(Option<Timestamp>, Option<Timestamp>), ApiError> {
    let mut times = [None, None];
    for (time, name) in times.iter_mut().zip(["since", "before"]) {
        if let Some(key) = filters.get(name).first() {
            *time = Some(daemon.engine().container(key).await?.created);
        }
    }
    let [since, before] = times;
    Ok((since, before))
}

fn passes(filters: &Filters, container: &Container) -> bool {
    let id = container.id.to_string();
    let status = render::status(container);
    let ended = container.state.as_ref().filter(|_| !container.running);
    // Docker reads a name as a regular expression; plain names and `^/name$` are what clients send.
    let named = |wanted: &str| {
        let (start, rest) = wanted.strip_prefix('^').map_or((false, wanted), |rest| (true, rest));
        let (end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        match (start, end) {
            (true, true) => container.name == rest,
            (true, false) => container.name.starts_with(rest),
            (false, true) => container.name.ends_with(rest),
            (false, false) => container.name.contains(rest),
        }
    };
    let exited = |code: &str| ended.is_some_and(|s| s.exit_code.is_some_and(|c| c.to_string() == code));
    filters.any("id", |prefix| id.starts_with(prefix))
        && filters.any("name", named)
        && filters.any("status", |wanted| wanted == status)
        && filters.any("exited", exited)
        && filters.any("health", |wanted| wanted == health_of(container))
}

fn health_of(container: &Container) -> &'static str {
    let health = container.state.as_ref().and_then(|state| state.health.as_ref());
    match health.map(|health| health.status) {
        None => "none",
        Some(HealthStatus::Starting) => "starting",
        Some(HealthStatus::Healthy) => "healthy",
        Some(HealthStatus::Unhealthy) => "unhealthy",
    }
}

/// The filters `publish` and `expose`.
struct Ports {
    published: Vec<ExposedPort>,
    exposed: Vec<ExposedPort>,
}

impl Ports {
    fn parse(filters: &Filters) -> Result<Self, ApiError> {
        let read = |name: &str| {
            let mut all = Vec::new();
            for text in filters.get(name) {
                let invalid = |e| ApiError::Invalid(format!("error while looking up for {name} {text}: {e}"));
                all.extend(engine::parse_exposed(text).map_err(invalid)?);
            }
            Ok::<_, ApiError>(all)
        };
        Ok(Self { published: read("publish")?, exposed: read("expose")? })
    }

    fn pass(&self, container: &Container) -> bool {
        let published = |wanted: &ExposedPort| {
            // By either side's number.
            let is_it = |number: u16, protocol| (number, protocol) == (wanted.port, wanted.protocol);
            container
                .ports
                .iter()
                .any(|p| is_it(p.host_port, p.protocol) || is_it(p.container_port, p.protocol))
        };
        (self.published.is_empty() || self.published.iter().any(published))
            && (self.exposed.is_empty()
                || self.exposed.iter().any(|port| container.config.exposed.contains(port)))
    }
}

fn in_network_and_volume(filters: &Filters, seen: &Seen) -> bool {
    let config = &seen.container.config;
    let is_it = |attached: &Attached, wanted: &str| {
        let id = attached.network.as_ref().map(|network| network.id.to_string());
        attached.name == wanted || id.is_some_and(|id| id == wanted)
    };
    let network = |wanted: &str| {
        network_mode(config) == wanted || seen.networks.iter().any(|attached| is_it(attached, wanted))
    };
    let volume = |wanted: &str| {
        config.mounts.iter().any(|mount| {
            mount.target.as_os_str() == wanted
                || matches!(&mount.kind, engine::MountKind::Volume(name) if name == wanted)
        })
    };
    filters.any("network", network) && filters.any("volume", volume)
}

pub(super) async fn create(daemon: &Daemon, mut call: Call) -> Result<Response, ApiError> {
    let body = parse::CreateBody::read(call.json().await?)?;
    let name = call.query.text("name").map(|name| name.strip_prefix('/').unwrap_or(name).to_owned());
    let image = daemon.image_for(&body.image)?;
    let platform = daemon.check_platform(&body.image, image, call.query.text("platform"))?;
    let create = parse::create(name.as_deref(), image, body, call.version)?;
    let (id, mut warnings) = daemon.create(create).await?;
    warnings.extend(platform);
    Ok(render::json(StatusCode::CREATED, &json!({ "Id": id.to_string(), "Warnings": warnings })))
}

pub(super) async fn inspect(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let container = daemon.engine().container(id).await?;
    let seen = daemon.see(container, &mut Images::default(), call.query.flag("size")).await?;
    let layers = seen.image.as_ref().map(|image| daemon.engine().images().layer_dirs(image));
    Ok(render::ok(&render::container(&seen, &layers.unwrap_or_default(), call.version)))
}

pub(super) async fn start(daemon: &Daemon, id: &str) -> Result<Response, ApiError> {
    daemon.start(id).await?;
    Ok(render::nothing())
}

pub(super) async fn stop(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    daemon.stop(id, call.query.number("t")?, call.query.text("signal")).await?;
    Ok(render::nothing())
}

pub(super) async fn restart(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    daemon.restart(id, call.query.number("t")?, call.query.text("signal")).await?;
    Ok(render::nothing())
}

pub(super) async fn kill(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    daemon.kill(id, call.query.text("signal")).await?;
    Ok(render::nothing())
}

pub(super) async fn rename(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let missing = || ApiError::Invalid("Neither old nor new names may be empty".to_owned());
    daemon.rename(id, call.query.text("name").ok_or_else(missing)?).await?;
    Ok(render::nothing())
}

pub(super) async fn remove(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    if call.query.flag("link") {
        return Err(ApiError::Unsupported("--link".to_owned()));
    }
    daemon.remove(id, call.query.flag("force"), call.query.flag("v")).await?;
    Ok(render::nothing())
}

pub(super) async fn prune(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&["label", "label!", "until"])?;
    let pruned = daemon.prune_containers(&filters).await?;
    Ok(render::ok(&json!({ "ContainersDeleted": pruned.removed, "SpaceReclaimed": pruned.bytes })))
}

/// Answers at once and tells the exit code when there is one.
pub(super) async fn wait(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let condition = match call.query.text("condition") {
        None | Some("not-running") => WaitFor::NotRunning,
        Some("next-exit") => WaitFor::NextExit,
        Some("removed") => WaitFor::Removed,
        Some(other) => return Err(ApiError::Invalid(format!("invalid condition: {other:?}"))),
    };
    let events = daemon.engine().watch_events();
    let id = daemon.engine().container(id).await?.id;
    let daemon = daemon.clone();
    let body = Body::from_stream(once(async move {
        let answer = match daemon.wait(id, condition, events).await {
            Ok(code) => json!({ "StatusCode": code }),
            Err(error) => json!({ "StatusCode": -1, "Error": { "Message": error.message() } }),
        };
        Ok::<_, std::convert::Infallible>(Bytes::from(format!("{answer}\n")))
    }));
    Ok(render::stream("application/json", body))
}

pub(super) async fn resize(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let (rows, columns) = size(&call)?;
    let container = daemon.engine().container(id).await?;
    if !container.running {
        return Err(ApiError::Conflict(format!("container {} is not running", container.id)));
    }
    daemon.engine().resize_container(container.id, rows, columns).await?;
    Ok(axum::response::IntoResponse::into_response(StatusCode::OK))
}

/// A terminal's rows and columns.
pub(super) fn size(call: &Call) -> Result<(u16, u16), ApiError> {
    let given = |name: &str| {
        let missing = || ApiError::Invalid(format!("invalid resize {name}: it is missing"));
        call.query.number(name)?.ok_or_else(missing)
    };
    Ok((given("h")?, given("w")?))
}
