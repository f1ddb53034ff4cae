use axum::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use engine::Container;
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::act::Daemon;
use crate::error::ApiError;
use crate::parse::{Call, Query};
use crate::stream::{self, Detach, DetachKeys, Frames, History, Joined, Selection, Wanted};

pub(super) async fn attach(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let container = daemon.engine().container(id).await?;
    let frames = if container.config.terminal { Frames::None } else { Frames::Kept };
    let joined = join(daemon, &call.query, &container, frames).await?;
    let content_type = stream::content_type(container.config.terminal, call.version);
    Ok(stream::hijack(call.upgrade, content_type, joined))
}

/// Attaches by a websocket (RFC 6455): output comes in binary messages, without frames, and any message is input.
pub(super) async fn websocket(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let key = call.headers.get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let asked = key.zip(call.upgrade);
    let (key, upgrade) =
        asked.ok_or_else(|| ApiError::Invalid("the request does not ask for a websocket".to_owned()))?;
    let container = daemon.engine().container(id).await?;
    let frames = if container.config.terminal { Frames::None } else { Frames::Stripped };
    let joined = join(daemon, &call.query, &container, frames).await?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(client) => stream::speak(TokioIo::new(client), joined).await,
            Err(error) => tracing::debug!(%error, "a client left before it was attached"),
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(key) = HeaderValue::try_from(key) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    }
    Ok(response)
}

/// Earlier output, if it is wanted, and what is to come.
async fn join(
    daemon: &Daemon,
    query: &Query,
    container: &Container,
    frames: Frames,
) -> Result<Joined, ApiError> {
    let (logs, live) = (query.flag("logs"), query.flag("stream"));
    if !logs && !live {
        return Err(ApiError::Invalid("either logs or stream must be asked for".to_owned()));
    }
    if live && container.is_paused() {
        let text = format!("container {} is paused, unpause the container before attach", container.id);
        return Err(ApiError::Conflict(text));
    }
    let keys = DetachKeys::parse(query.text("detachKeys"))?;
    let (stdin, terminal) = (query.flag("stdin"), container.config.terminal);
    let wanted = Wanted { stdout: query.flag("stdout"), stderr: query.flag("stderr") };
    let history = match logs && container.config.logging.is_kept() {
        true => {
            let selection = Selection {
                wanted,
                since: None,
                until: None,
                timestamps: false,
                details: false,
                framed: frames == Frames::Kept,
            };
            Some(History { log: daemon.engine().logs(container, None, false).await?, selection })
        }
        false => None,
    };
    let process = match live {
        true => Some(daemon.attach(container, stdin).await?),
        false => None,
    };
    daemon.engine().record_container(container.id, "attach", &[]).await?;
    let detach = (terminal && stdin).then(|| detach(daemon, container, keys));
    Ok(Joined { history, process, stdin, wanted, frames, detach, ended: None })
}

/// How a client leaves the container, which is recorded.
fn detach(daemon: &Daemon, container: &Container, keys: DetachKeys) -> Detach {
    let (told, left) = oneshot::channel();
    let (daemon, id) = (daemon.clone(), container.id);
    tokio::spawn(async move {
        // The container may be gone.
        if left.await.is_ok()
            && let Err(error) = daemon.engine().record_container(id, "detach", &[]).await
        {
            tracing::debug!(%error, "cannot record that a client left");
        }
    });
    Detach { keys, text: "", told }
}
