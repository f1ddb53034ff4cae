use axum::body::{Body, Bytes};
use axum::response::Response;
use futures::stream::unfold;

use crate::act::Daemon;
use crate::error::ApiError;
use crate::parse::Call;
use crate::render;
use crate::stream::{History, Selection, Wanted, content_type};

pub(super) async fn logs(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let query = &call.query;
    let wanted = Wanted { stdout: query.flag("stdout"), stderr: query.flag("stderr") };
    if !wanted.stdout && !wanted.stderr {
        let text = "Bad parameters: you must choose at least one stream";
        return Err(ApiError::Invalid(text.to_owned()));
    }
    let container = daemon.engine().container(id).await?;
    if !container.config.logging.is_kept() {
        let text = "configured logging driver does not support reading";
        return Err(ApiError::NotImplemented(text.to_owned()));
    }
    let terminal = container.config.terminal;
    let selection = Selection {
        wanted,
        since: query.time("since")?,
        until: query.time("until")?,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        framed: !terminal,
    };
    // Docker takes what is no number, "all" for one, for all.
    let tail = query.text("tail").and_then(|text| text.parse().ok());
    let log = daemon.engine().logs(&container, tail, query.flag("follow")).await?;
    // The head goes out at once, though there may be nothing to tell for a long time.
    let body = Body::from_stream(unfold((History { log, selection }, true), async |(mut history, first)| {
        let bytes = if first { Ok(Bytes::new()) } else { history.next().await? };
        Some((bytes, (history, false)))
    }));
    Ok(render::stream(content_type(terminal, call.version), body))
}
