use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::Response;
use engine::Error;
use engine_types::ContainerId;
use futures::stream::unfold;
use serde_json::json;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::act::{Daemon, Sample};
use crate::error::ApiError;
use crate::parse::{self, Call, Version};
use crate::render;

/// How often numbers are told; Docker's.
const PERIOD: Duration = Duration::from_secs(1);

pub(super) async fn pause(daemon: &Daemon, id: &str) -> Result<Response, ApiError> {
    daemon.pause(id).await?;
    Ok(render::nothing())
}

pub(super) async fn unpause(daemon: &Daemon, id: &str) -> Result<Response, ApiError> {
    daemon.unpause(id).await?;
    Ok(render::nothing())
}

pub(super) async fn update(daemon: &Daemon, mut call: Call, id: &str) -> Result<Response, ApiError> {
    let update = parse::update(call.json().await?)?;
    daemon.update(id, &update.limits, update.restart).await?;
    Ok(render::ok(&json!({ "Warnings": null })))
}

pub(super) async fn top(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let processes = daemon.top(id, call.query.text("ps_args")).await?;
    Ok(render::ok(&json!({ "Titles": processes.titles, "Processes": processes.rows })))
}

/// A client that is told of a container's numbers.
struct Told {
    daemon: Daemon,
    id: ContainerId,
    version: Version,
    ticks: Interval,
    before: Option<Sample>,
}

pub(super) async fn stats(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let id = daemon.engine().container(id).await?.id;
    let stream = call.query.text("stream").is_none() || call.query.flag("stream");
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = Told { daemon: daemon.clone(), id, version: call.version, ticks, before: None };
    if stream {
        let body = Body::from_stream(unfold(told, async |mut told| {
            let line = told.next().await?;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), told))
        }));
        return Ok(render::stream("application/json", body));
    }
    let first = daemon.sample(id).await?;
    // A difference takes two; who wants one alone, or asks of one that does not run, does not wait.
    if call.query.flag("one-shot") || first.running.is_none() {
        return Ok(render::ok(&render::stats(&first, None, call.version)));
    }
    told.ticks.tick().await;
    told.ticks.tick().await;
    let second = daemon.sample(id).await?;
    Ok(render::ok(&render::stats(&second, Some(&first), call.version)))
}

impl Told {
    /// The next line, when it is time; `None` once the container is gone.
    async fn next(&mut self) -> Option<String> {
        self.ticks.tick().await;
        let sample = match self.daemon.sample(self.id).await {
            Ok(sample) => sample,
            Err(ApiError::Engine(Error::NoSuchContainer(_))) => return None,
            Err(error) => {
                tracing::warn!(container = %self.id.short(), error = %error.message(), "cannot tell what it uses");
                return None;
            }
        };
        let line = format!("{}\n", render::stats(&sample, self.before.as_ref(), self.version));
        self.before = Some(sample);
        Some(line)
    }
}
