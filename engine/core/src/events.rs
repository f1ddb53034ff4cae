//! What happens to containers, images, networks and volumes, for those who watch.
//!
//! An event is a row of the catalog, so that who asks after a restart still learns of it; who watches is told at once,
//! if this process recorded it.

use std::collections::BTreeMap;

use engine_types::ContainerId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::catalog::{from_json, to_json};
use crate::engine::Engine;
use crate::error::Error;

/// Events that one watcher may be behind before it misses some.
const WATCHER_BACKLOG: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// To what kind of thing.
    pub kind: EventKind,
    /// What, in Docker's words: `create`, `start`, `die`.
    pub action: String,
    /// The thing's id, or a volume's name.
    pub actor: String,
    /// More about it.
    pub attributes: BTreeMap<String, String>,
}

/// What kinds of things events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl EventKind {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// Tells the watchers of one process.
#[derive(Debug)]
pub(crate) struct Watchers(broadcast::Sender<Event>);

impl Default for Watchers {
    fn default() -> Self {
        Self(broadcast::channel(WATCHER_BACKLOG).0)
    }
}

impl Engine {
    /// Notes that something happened now and tells the watchers.
    pub async fn record(
        &self,
        kind: EventKind,
        action: &str,
        actor: &str,
        attributes: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let time = Timestamp::now();
        let event = Event { time, kind, action: action.to_owned(), actor: actor.to_owned(), attributes };
        let noted = self.catalog().insert_event(time, &to_json(&event)?).await;
        // Told all the same on a full disk: who waits for an end must not wait for ever. Nobody may be watching.
        let _ = self.watchers().0.send(event);
        noted
    }

    /// Notes what happened to a container; its image, its name and its labels are told with it, as Docker does.
    pub async fn record_container(
        &self,
        id: ContainerId,
        action: &str,
        more: &[(&str, String)],
    ) -> Result<(), Error> {
        let row = self.catalog().container(&id.to_string()).await?;
        let config: crate::ContainerConfig = from_json(&row.config)?;
        let mut attributes = config.labels;
        attributes.insert("image".to_owned(), config.image_name.unwrap_or_else(|| config.image.to_string()));
        attributes.insert("name".to_owned(), row.name);
        attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.record(EventKind::Container, action, &id.to_string(), attributes).await
    }

    /// What is recorded by this process from now on.
    pub fn watch_events(&self) -> broadcast::Receiver<Event> {
        self.watchers().0.subscribe()
    }

    /// What was recorded since then by any process, as far back as is kept.
    pub async fn events_since(&self, since: Timestamp) -> Result<Vec<Event>, Error> {
        self.catalog().events_since(since).await?.iter().map(|text| from_json(text)).collect()
    }
}
