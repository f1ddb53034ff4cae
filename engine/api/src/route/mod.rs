//! Which request is for whom.

mod attach;
mod build;
mod container;
mod events;
mod exec;
mod files;
mod image;
mod live;
mod logs;
mod network;
mod progress;
mod system;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::act::Daemon;
use crate::error::ApiError;
use crate::parse::{Call, Version};

/// What every answer says of whose it is.
const SERVER: &str = concat!("Lighter/", env!("CARGO_PKG_VERSION"), " (linux)");

/// Answers a request.
pub(crate) async fn answer(State(daemon): State<Daemon>, request: Request) -> Response {
    let head = request.method() == axum::http::Method::HEAD;
    let answered = match Call::parse(request) {
        Ok(call) => dispatch(&daemon, call).await,
        Err(error) => Err(error),
    };
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    let headers = response.headers_mut();
    if let Ok(version) = HeaderValue::try_from(Version::NEWEST.to_string()) {
        headers.insert("Api-Version", version);
    }
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert(header::SERVER, HeaderValue::from_static(SERVER));
    if head {
        *response.body_mut() = Body::empty();
    }
    response
}

async fn dispatch(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let path = call.path.clone();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["containers", rest @ ..] => containers(daemon, call, rest).await,
        ["exec", id, rest @ ..] => execs(daemon, call, id, rest).await,
        ["images", rest @ ..] => images(daemon, call, rest).await,
        ["networks", rest @ ..] => networks(daemon, call, rest).await,
        ["volumes", rest @ ..] => volumes(daemon, call, rest).await,
        rest => system(daemon, call, rest).await,
    }
}

async fn containers(daemon: &Daemon, call: Call, path: &[&str]) -> Result<Response, ApiError> {
    match (call.method.as_str(), path) {
        ("GET", ["json"]) => container::list(daemon, call).await,
        ("POST", ["create"]) => container::create(daemon, call).await,
        ("POST", ["prune"]) => container::prune(daemon, call).await,
        ("DELETE", [id]) => container::remove(daemon, call, id).await,
        ("GET", [id, "json"]) => container::inspect(daemon, call, id).await,
        ("POST", [id, "start"]) => container::start(daemon, id).await,
        ("POST", [id, "stop"]) => container::stop(daemon, call, id).await,
        ("POST", [id, "restart"]) => container::restart(daemon, call, id).await,
        ("POST", [id, "kill"]) => container::kill(daemon, call, id).await,
        ("POST", [id, "wait"]) => container::wait(daemon, call, id).await,
        ("POST", [id, "rename"]) => container::rename(daemon, call, id).await,
        ("POST", [id, "resize"]) => container::resize(daemon, call, id).await,
        ("POST", [id, "attach"]) => attach::attach(daemon, call, id).await,
        ("GET", [id, "logs"]) => logs::logs(daemon, call, id).await,
        ("POST", [id, "exec"]) => exec::create(daemon, call, id).await,
        ("POST", [id, "pause"]) => live::pause(daemon, id).await,
        ("POST", [id, "unpause"]) => live::unpause(daemon, id).await,
        ("POST", [id, "update"]) => live::update(daemon, call, id).await,
        ("GET", [id, "top"]) => live::top(daemon, call, id).await,
        ("GET", [id, "stats"]) => live::stats(daemon, call, id).await,
        ("GET", [id, "changes"]) => files::changes(daemon, id).await,
        ("GET", [id, "export"]) => files::export(daemon, id).await,
        ("HEAD", [id, "archive"]) => files::stat(daemon, call, id).await,
        ("GET", [id, "archive"]) => files::archive(daemon, call, id).await,
        ("PUT", [id, "archive"]) => files::unpack(daemon, call, id).await,
        ("GET", [id, "attach", "ws"]) => attach::websocket(daemon, call, id).await,
        _ => Err(not_found()),
    }
}

async fn execs(daemon: &Daemon, call: Call, id: &str, path: &[&str]) -> Result<Response, ApiError> {
    match (call.method.as_str(), path) {
        ("GET", ["json"]) => exec::inspect(daemon, id),
        ("POST", ["start"]) => exec::start(daemon, call, id).await,
        ("POST", ["resize"]) => exec::resize(daemon, call, id),
        _ => Err(not_found()),
    }
}

async fn images(daemon: &Daemon, call: Call, path: &[&str]) -> Result<Response, ApiError> {
    match (call.method.as_str(), path) {
        ("GET", ["json"]) => image::list(daemon, call).await,
        ("POST", ["create"]) => image::create(daemon, call).await,
        ("POST", ["load"]) => image::load(daemon, call).await,
        ("POST", ["prune"]) => image::prune(daemon, call).await,
        ("GET", ["search"]) => image::search(daemon, call).await,
        ("GET", ["get"]) => image::save(daemon, call, None),
        ("GET", [name @ .., "get"]) => image::save(daemon, call, Some(name.join("/"))),
        ("GET", [name @ .., "json"]) => image::inspect(daemon, call, &name.join("/")),
        ("GET", [name @ .., "history"]) => image::history(daemon, &name.join("/")),
        ("POST", [name @ .., "tag"]) => image::tag(daemon, call, &name.join("/")).await,
        ("POST", [name @ .., "push"]) => image::push(daemon, call, &name.join("/")).await,
        ("DELETE", [_, ..]) => image::remove(daemon, call, &path.join("/")).await,
        _ => Err(not_found()),
    }
}

async fn networks(daemon: &Daemon, call: Call, path: &[&str]) -> Result<Response, ApiError> {
    match (call.method.as_str(), path) {
        ("GET", []) => network::list(daemon, call).await,
        ("POST", ["create"]) => network::create(daemon, call).await,
        ("POST", ["prune"]) => network::prune(daemon, call).await,
        ("GET", [id]) => network::inspect(daemon, id).await,
        ("DELETE", [id]) => network::remove(daemon, id).await,
        ("POST", [id, "connect"]) => network::connect(daemon, call, id).await,
        ("POST", [id, "disconnect"]) => network::disconnect(daemon, call, id).await,
        _ => Err(not_found()),
    }
}

async fn volumes(daemon: &Daemon, call: Call, path: &[&str]) -> Result<Response, ApiError> {
    match (call.method.as_str(), path) {
        ("GET", []) => network::list_volumes(daemon, call).await,
        ("POST", ["create"]) => network::create_volume(daemon, call).await,
        ("POST", ["prune"]) => network::prune_volumes(daemon, call).await,
        ("GET", [name]) => network::inspect_volume(daemon, name).await,
        ("DELETE", [name]) => network::remove_volume(daemon, call, name).await,
        _ => Err(not_found()),
    }
}

async fn system(daemon: &Daemon, call: Call, path: &[&str]) -> Result<Response, ApiError> {
    match (call.method.as_str(), path) {
        ("GET" | "HEAD", ["_ping"]) => Ok(system::ping()),
        ("GET", ["version"]) => system::version(daemon).await,
        ("GET", ["info"]) => system::info(daemon).await,
        ("GET", ["events"]) => events::events(daemon, call).await,
        ("GET", ["system", "df"]) => system::disk_usage(daemon, call).await,
        ("POST", ["build", "prune"]) => build::prune(daemon, call).await,
        ("POST", ["build"]) => build::build(daemon, call).await,
        ("POST", ["session" | "grpc"]) => Err(crate::parse::no_buildkit()),
        ("POST", ["commit"]) => image::commit(daemon, call).await,
        ("POST", ["auth"]) => image::log_in(daemon, call).await,
        ("GET", ["distribution", name @ .., "json"]) => {
            image::distribution(daemon, call, &name.join("/")).await
        }
        ("GET", ["plugins"]) => Ok(crate::render::ok(&serde_json::json!([]))),
        ("GET", ["plugins", name @ .., "json"]) => {
            Err(ApiError::NotFound(format!("plugin \"{}\" not found", name.join("/"))))
        }
        (_, ["swarm" | "services" | "tasks" | "nodes" | "secrets" | "configs", ..]) => Err(ApiError::NoSwarm),
        _ => Err(not_found()),
    }
}

fn not_found() -> ApiError {
    ApiError::NotFound("page not found".to_owned())
}
