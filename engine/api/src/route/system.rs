use axum::http::header;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::act::{Daemon, Images};
use crate::error::ApiError;
use crate::parse::Call;
use crate::render;

pub(super) fn ping() -> Response {
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL.as_str(), "no-cache, no-store, must-revalidate"),
        (header::PRAGMA.as_str(), "no-cache"),
        // The classic builder's.
        ("Builder-Version", "1"),
        ("Swarm", "inactive"),
    ];
    (headers, "OK").into_response()
}

pub(super) async fn version(daemon: &Daemon) -> Result<Response, ApiError> {
    Ok(render::ok(&render::version(&daemon.host().await?)))
}

pub(super) async fn info(daemon: &Daemon) -> Result<Response, ApiError> {
    Ok(render::ok(&render::info(&daemon.host().await?)))
}

pub(super) async fn disk_usage(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let kinds = call.query.all("type");
    let wants = |kind: &str| kinds.is_empty() || kinds.iter().any(|wanted| wanted == kind);
    let mut value = json!({});
    if wants("image") {
        let images = daemon.images().await?;
        value["LayersSize"] = json!(Daemon::image_bytes(&images));
        let images = images.iter().map(|(image, count)| render::image_summary(image, *count, call.version));
        value["Images"] = images.collect();
    }
    if wants("container") {
        let (mut containers, mut images) = (Vec::new(), Images::default());
        for container in daemon.engine().containers().await? {
            let seen = daemon.see(container, &mut images, true).await?;
            containers.push(render::container_summary(&seen, call.version, Timestamp::now()));
        }
        value["Containers"] = json!(containers);
    }
    if wants("volume") {
        value["Volumes"] = volumes(daemon).await?;
    }
    if wants("build-cache") {
        let layers = daemon.engine().build_cache_layers().await?;
        value["BuildCache"] = layers.iter().map(render::cached_layer).collect();
        value["BuilderSize"] = json!(layers.iter().map(|layer| layer.own_bytes).sum::<u64>());
    }
    Ok(render::ok(&value))
}

async fn volumes(daemon: &Daemon) -> Result<Value, ApiError> {
    let containers = daemon.engine().containers().await?;
    let mut all = Vec::new();
    for volume in daemon.engine().volumes().await? {
        let mounts = containers.iter().flat_map(|container| &container.config.mounts);
        let is_it = |kind: &engine::MountKind| matches!(kind, engine::MountKind::Volume(name) if *name == volume.name);
        let users = mounts.filter(|mount| is_it(&mount.kind)).count();
        let mut value = render::volume(&volume);
        let size = Daemon::size_of(volume.directory.clone()).await;
        value["UsageData"] = json!({ "Size": size, "RefCount": users });
        all.push(value);
    }
    Ok(json!(all))
}
