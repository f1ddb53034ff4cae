use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::container::size;
use crate::act::{Daemon, ExecSpec, ExecView};
use crate::error::ApiError;
use crate::parse::Call;
use crate::stream::{Detach, DetachKeys, Frames};
use crate::{render, stream};

/// As Docker's `ExecConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Create {
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    tty: bool,
    env: Vec<String>,
    cmd: Vec<String>,
    privileged: bool,
    user: String,
    working_dir: String,
    /// docker-py begins it with a small letter, which Go takes as well.
    #[serde(alias = "detachKeys")]
    detach_keys: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Start {
    detach: bool,
    tty: bool,
}

pub(super) async fn create(daemon: &Daemon, mut call: Call, container: &str) -> Result<Response, ApiError> {
    let body: Create = call.json().await?;
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    let spec = ExecSpec {
        command: body.cmd,
        env: body.env,
        working_dir: some(body.working_dir),
        user: some(body.user),
        terminal: body.tty,
        stdin: body.attach_stdin,
        stdout: body.attach_stdout,
        stderr: body.attach_stderr,
        privileged: body.privileged,
        detach_keys: body.detach_keys.filter(|keys| !keys.is_empty()),
    };
    DetachKeys::parse(spec.detach_keys.as_deref())?;
    let id = daemon.create_exec(container, spec).await?;
    Ok(render::json(StatusCode::CREATED, &json!({ "Id": id.to_string() })))
}

pub(super) async fn start(daemon: &Daemon, mut call: Call, id: &str) -> Result<Response, ApiError> {
    let body: Start = call.json().await?;
    let spec = daemon.exec(id)?.spec;
    let keys = DetachKeys::parse(spec.detach_keys.as_deref())?;
    let started = daemon.start_exec(id, body.detach, !body.tty).await?;
    if body.detach {
        return Ok(StatusCode::OK.into_response());
    }
    let detach = (spec.terminal && spec.stdin).then(|| {
        let (told, left) = oneshot::channel();
        let (daemon, id) = (daemon.clone(), id.to_owned());
        tokio::spawn(async move {
            // The exec may have gone with its container.
            if left.await.is_ok()
                && let Err(error) = daemon.exec_detached(&id).await
            {
                tracing::debug!(error = %error.message(), "cannot record that a client left");
            }
        });
        Detach { keys, text: "exec attach failed: error on attach stdin: read escape sequence\r\n", told }
    });
    let joined = stream::Joined {
        history: None,
        process: Some(started.stream),
        stdin: spec.stdin,
        // What was not asked for is not in it.
        wanted: stream::Wanted { stdout: true, stderr: true },
        frames: match (spec.terminal, body.tty) {
            (_, true) => Frames::None,
            (true, false) => Frames::Added,
            (false, false) => Frames::Kept,
        },
        detach,
        ended: Some(started.ended),
    };
    Ok(stream::hijack(call.upgrade, stream::content_type(body.tty, call.version), joined))
}

pub(super) fn resize(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let (rows, columns) = size(&call)?;
    daemon.resize_exec(id, rows, columns)?;
    Ok(StatusCode::OK.into_response())
}

pub(super) fn inspect(daemon: &Daemon, id: &str) -> Result<Response, ApiError> {
    Ok(render::ok(&view(&daemon.exec(id)?)))
}

fn view(exec: &ExecView) -> Value {
    let spec = &exec.spec;
    let (program, arguments) = spec.command.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    json!({
        "ID": exec.id.to_string(),
        "Running": exec.pid.is_some() && exec.exit_code.is_none(),
        "ExitCode": exec.exit_code,
        "ProcessConfig": {
            "tty": spec.terminal, "entrypoint": program, "arguments": arguments, "privileged": spec.privileged,
            "user": spec.user.clone().unwrap_or_default(),
        },
        "OpenStdin": spec.stdin,
        "OpenStdout": spec.stdout,
        "OpenStderr": spec.stderr,
        "CanRemove": exec.exit_code.is_some(),
        "ContainerID": exec.container.to_string(),
        "DetachKeys": spec.detach_keys.clone().unwrap_or_default(),
        "Pid": exec.pid.unwrap_or(0),
    })
}
