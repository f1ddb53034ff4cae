use axum::response::Response;
use engine::Container;
use tokio::sync::oneshot;

use crate::act::Daemon;
use crate::error::ApiError;
use crate::parse::{Call, Query};
use crate::stream::{self, Detach, DetachKeys, History, Joined, Selection, Wanted};

pub(super) async fn attach(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let container = daemon.engine().container(id).await?;
    let joined = join(daemon, &call.query, &container).await?;
    let content_type = stream::content_type(container.config.terminal, call.version);
    Ok(stream::hijack(call.upgrade, content_type, joined))
}

/// Earlier output, if it is wanted, and what is to come.
async fn join(daemon: &Daemon, query: &Query, container: &Container) -> Result<Joined, ApiError> {
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
                framed: !terminal,
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
    Ok(Joined { history, process, stdin, wanted, framed: !terminal, frame: false, detach, ended: None })
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
