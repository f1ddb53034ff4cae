use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use axum::response::Response;
use serde_json::json;

use super::progress;
use crate::act::{BuildProgress, Daemon, PruneBuild};
use crate::error::ApiError;
use crate::parse::{self, Call};
use crate::render::{self, BuildLines, PullLines};
use crate::transfer::Upload;

pub(super) async fn build(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let build = parse::build(&call)?;
    let body = Upload::new(call.body);
    let (daemon, quiet, tags) = (daemon.clone(), build.quiet, build.tags.clone());
    progress::answer(|progress| async move {
        let lines = Mutex::new((BuildLines::new(quiet), BTreeMap::<String, PullLines>::new()));
        let tell = |event: BuildProgress| {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            let (lines, pulls) = &mut *lines;
            let told = match event {
                BuildProgress::Pull(..) if quiet => Vec::new(),
                BuildProgress::Pull(image, event) => {
                    pulls.entry(image.to_string()).or_insert_with(|| PullLines::new(&image)).take(event)
                }
                BuildProgress::Build(event) => lines.take(event),
                BuildProgress::Done(id) => lines.built(id, &tags),
            };
            told.iter().for_each(|line| progress.tell(line));
        };
        daemon.build(build, body, &tell).await
    })
    .await
}

/// Filters of what is pruned.
const PRUNE_FILTERS: [&str; 5] = ["description", "id", "shared", "type", "until"];

pub(super) async fn prune(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&PRUNE_FILTERS)?;
    if call.query.number::<i64>("min-free-space")?.is_some_and(|bytes| bytes != 0) {
        return Err(ApiError::Unsupported("--min-free-space".to_owned()));
    }
    let mut keep = None;
    for name in ["keep-storage", "reserved-space", "max-used-space"] {
        keep = keep.max(call.query.number::<u64>(name)?.filter(|&bytes| bytes > 0));
    }
    let pruned = daemon.prune_build_cache(&PruneBuild { all: call.query.flag("all"), keep, filters }).await?;
    Ok(render::ok(&json!({ "CachesDeleted": pruned.removed, "SpaceReclaimed": pruned.bytes })))
}
