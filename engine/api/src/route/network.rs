use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::act::Daemon;
use crate::error::ApiError;
use crate::parse::{self, Call};
use crate::render;

/// As Docker's `NetworkConnectRequest` and `NetworkDisconnectRequest`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Connect {
    container: String,
    endpoint_config: parse::Endpoint,
    force: bool,
}

/// As Docker's `VolumeCreateOptions`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateVolume {
    name: String,
    driver: String,
    driver_opts: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    cluster_volume_spec: Option<Value>,
}

/// What this engine lacks fails; the option's name is what clients call it.
fn refuse(options: &[(bool, &str)]) -> Result<(), ApiError> {
    match options.iter().find(|(asked, _)| *asked) {
        Some((_, option)) => Err(ApiError::Unsupported((*option).to_owned())),
        None => Ok(()),
    }
}

pub(super) async fn list(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let passes = |value: &Value| {
        let text = |name: &str| value[name].as_str().unwrap_or_default();
        let labels = serde_json::from_value(value["Labels"].clone()).unwrap_or_default();
        let predefined = matches!(text("Name"), "bridge" | "host" | "none");
        filters.labels(&labels)
            && filters.any("id", |prefix| text("Id").starts_with(prefix))
            && filters.any("name", |part| text("Name").contains(part))
            && filters.any("driver", |driver| text("Driver") == driver)
            && filters.any("scope", |scope| scope == "local")
            && filters.any("type", |kind| kind == if predefined { "builtin" } else { "custom" })
    };
    daemon.engine().default_network().await?;
    let networks = daemon.engine().networks().await?;
    let real = networks.iter().map(|network| render::network(network, &[]));
    let all: Vec<Value> = real.chain(render::pseudo_networks()).filter(passes).collect();
    Ok(render::ok(&all))
}

pub(super) async fn create(daemon: &Daemon, mut call: Call) -> Result<Response, ApiError> {
    let body: parse::CreateNetwork = call.json().await?;
    let network = daemon.create_network(body.config()?).await?;
    Ok(render::json(StatusCode::CREATED, &json!({ "Id": network.id.to_string(), "Warning": "" })))
}

pub(super) async fn connect(daemon: &Daemon, mut call: Call, network: &str) -> Result<Response, ApiError> {
    let body: Connect = call.json().await?;
    daemon.connect(network, &body.container, body.endpoint_config).await?;
    Ok(StatusCode::OK.into_response())
}

pub(super) async fn disconnect(daemon: &Daemon, mut call: Call, network: &str) -> Result<Response, ApiError> {
    let body: Connect = call.json().await?;
    daemon.disconnect(network, &body.container, body.force).await?;
    Ok(StatusCode::OK.into_response())
}

pub(super) async fn inspect(daemon: &Daemon, id: &str) -> Result<Response, ApiError> {
    let is_it = |value: &Value| value["Name"] == id || value["Id"] == id;
    if let Some(pseudo) = render::pseudo_networks().into_iter().find(is_it) {
        return Ok(render::ok(&pseudo));
    }
    if id == "bridge" {
        daemon.engine().default_network().await?;
    }
    let network = daemon.engine().network(id).await?;
    let members = daemon.members(&network).await?;
    Ok(render::ok(&render::network(&network, &members)))
}

pub(super) async fn remove(daemon: &Daemon, id: &str) -> Result<Response, ApiError> {
    daemon.remove_network(id).await?;
    Ok(render::nothing())
}

pub(super) async fn prune(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&["label", "label!", "until"])?;
    let pruned = daemon.prune_networks(&filters).await?;
    Ok(render::ok(&json!({ "NetworksDeleted": pruned.removed })))
}

pub(super) async fn list_volumes(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&["dangling", "driver", "label", "name"])?;
    let dangling = filters.flag("dangling")?;
    let containers = daemon.engine().containers().await?;
    let in_use = |name: &str| {
        let mounts = containers.iter().flat_map(|container| &container.config.mounts);
        mounts
            .filter(|mount| matches!(&mount.kind, engine::MountKind::Volume(other) if other == name))
            .count()
            > 0
    };
    let volumes = daemon.engine().volumes().await?;
    let chosen = volumes.iter().filter(|volume| {
        filters.labels(&volume.labels)
            && filters.any("name", |part| volume.name.contains(part))
            && filters.any("driver", |driver| driver == "local")
            && dangling.is_none_or(|dangling| dangling != in_use(&volume.name))
    });
    let all: Vec<Value> = chosen.map(render::volume).collect();
    Ok(render::ok(&json!({ "Volumes": all, "Warnings": null })))
}

pub(super) async fn create_volume(daemon: &Daemon, mut call: Call) -> Result<Response, ApiError> {
    let body: CreateVolume = call.json().await?;
    if !matches!(body.driver.as_str(), "" | "local") {
        return Err(ApiError::NotFound(format!(
            "create {}: error looking up volume plugin {}: plugin \"{1}\" not found",
            body.name, body.driver
        )));
    }
    refuse(&[(body.cluster_volume_spec.is_some(), "a cluster volume")])?;
    let volume = daemon.create_volume(&body.name, body.labels, &body.driver_opts).await?;
    Ok(render::json(StatusCode::CREATED, &render::volume(&volume)))
}

pub(super) async fn inspect_volume(daemon: &Daemon, name: &str) -> Result<Response, ApiError> {
    Ok(render::ok(&render::volume(&daemon.engine().volume(name).await?)))
}

pub(super) async fn remove_volume(daemon: &Daemon, call: Call, name: &str) -> Result<Response, ApiError> {
    daemon.remove_volume(name, call.query.flag("force")).await?;
    Ok(render::nothing())
}

pub(super) async fn prune_volumes(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&["all", "label", "label!"])?;
    // Up to 1.41 all volumes that no container mounts went.
    let all = call.version < crate::parse::Version(1, 42);
    let pruned = daemon.prune_volumes(&filters, all).await?;
    Ok(render::ok(&json!({ "VolumesDeleted": pruned.removed, "SpaceReclaimed": pruned.bytes })))
}
