use std::collections::VecDeque;

use axum::body::{Body, Bytes};
use axum::response::Response;
use engine::Event;
use futures::stream::unfold;
use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::act::Daemon;
use crate::error::ApiError;
use crate::parse::{Call, Filters, Version};
use crate::render;

/// Filters of events.
const FILTERS: [&str; 9] =
    ["container", "event", "image", "label", "network", "scope", "type", "volume", "daemon"];

/// A client that watches.
struct Watch {
    past: VecDeque<Event>,
    live: Receiver<Event>,
    /// When what is to come began.
    seen: Timestamp,
    until: Option<Timestamp>,
    filters: Filters,
    version: Version,
}

pub(super) async fn events(daemon: &Daemon, call: Call) -> Result<Response, ApiError> {
    let filters = call.query.filters()?;
    filters.expect(&FILTERS)?;
    let (since, until) = (call.query.time("since")?, call.query.time("until")?);
    // In this order, so that nothing falls in between; what is in both counts once.
    let live = daemon.engine().watch_events();
    let past = match since {
        Some(since) => daemon.engine().events_since(since).await?,
        None => Vec::new(),
    };
    let seen = past.last().map_or(Timestamp::MIN, |event| event.time);
    let watch = Watch { past: past.into(), live, seen, until, filters, version: call.version };
    let body = Body::from_stream(unfold(watch, async |mut watch| {
        let event = watch.next().await?;
        let line = format!("{}\n", render::event(&event, watch.version));
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), watch))
    }));
    Ok(render::stream("application/json", body))
}

impl Watch {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let event = match self.past.pop_front() {
                Some(event) => event,
                None => self.live().await?,
            };
            if self.until.is_some_and(|until| event.time > until) {
                return None;
            }
            if passes(&self.filters, &event) {
                return Some(event);
            }
        }
    }

    /// The next event that is recorded; `None` after the time that is asked for.
    async fn live(&mut self) -> Option<Event> {
        let Self { live, until, seen, .. } = self;
        let received = async {
            loop {
                match live.recv().await {
                    Ok(event) if event.time > *seen => return Some(event),
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        let Some(until) = until else { return received.await };
        let left = until.duration_since(Timestamp::now());
        let left = std::time::Duration::try_from(left).unwrap_or_default(); // it is over already
        tokio::time::timeout(left, received).await.ok().flatten()
    }
}

fn passes(filters: &Filters, event: &Event) -> bool {
    let kind = event.kind.as_str();
    let of = |name: &str, attribute: &str| {
        let is_it = |wanted: &str| {
            let names = event.attributes.get(attribute);
            event.actor == wanted
                || (wanted.len() >= 12 && event.actor.starts_with(wanted))
                || names.is_some_and(|name| name == wanted)
        };
        filters.get(name).is_empty() || (kind == name && filters.any(name, is_it))
    };
    // `exec_create: command` is known by its first word.
    let action = event.action.split(':').next().unwrap_or_default();
    let image = |wanted: &str| {
        event.attributes.get("image").is_some_and(|image| image == wanted) || event.actor == wanted
    };
    filters.any("type", |wanted| wanted == kind)
        && filters.any("event", |wanted| wanted == action || wanted == event.action)
        && filters.any("scope", |wanted| wanted == "local")
        && of("container", "name")
        && of("network", "name")
        && of("volume", "name")
        && filters.any("image", image)
        && filters.get("daemon").is_empty()
        && filters.labels(&event.attributes)
}
