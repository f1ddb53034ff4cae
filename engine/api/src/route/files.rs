use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use engine::{ChangeKind, PathStat};
use serde_json::{Value, json};

use crate::act::{Daemon, UnpackRequest};
use crate::error::ApiError;
use crate::parse::Call;
use crate::render;
use crate::transfer::Upload;

/// Tells what is at the path of an archive: JSON in base64.
const PATH_STAT: &str = "X-Docker-Container-Path-Stat";

pub(super) async fn stat(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let stat = daemon.path_stat(id, path(&call)?).await?;
    Ok(with_stat(StatusCode::OK.into_response(), &stat))
}

pub(super) async fn archive(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let (stat, body) = daemon.archive(id, path(&call)?).await?;
    Ok(with_stat(render::stream("application/x-tar", body), &stat))
}

pub(super) async fn unpack(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let request = UnpackRequest {
        path: path(&call)?.to_owned(),
        keep_kinds: call.query.flag("noOverwriteDirNonDir"),
        to_user: call.query.flag("copyUIDGID"),
    };
    daemon.unpack(id, request, Upload::new(call.body)).await?;
    Ok(StatusCode::OK.into_response())
}

pub(super) async fn export(daemon: &Daemon, id: &str) -> Result<Response, ApiError> {
    Ok(render::stream("application/octet-stream", daemon.export(id).await?))
}

pub(super) async fn changes(daemon: &Daemon, id: &str) -> Result<Response, ApiError> {
    let changes = daemon.changes(id).await?;
    let all: Vec<Value> = changes
        .iter()
        .map(|change| {
            let kind = match change.kind {
                ChangeKind::Modified => 0,
                ChangeKind::Added => 1,
                ChangeKind::Deleted => 2,
            };
            json!({ "Path": change.path, "Kind": kind })
        })
        .collect();
    Ok(if all.is_empty() { render::ok(&Value::Null) } else { render::ok(&all) })
}

fn path(call: &Call) -> Result<&str, ApiError> {
    let missing = || ApiError::Invalid("bad parameter: path cannot be empty".to_owned());
    call.query.text("path").ok_or_else(missing)
}

fn with_stat(mut response: Response, stat: &PathStat) -> Response {
    let text = base64::engine::general_purpose::STANDARD.encode(render::path_stat(stat).to_string());
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().insert(PATH_STAT, value);
    }
    response
}
