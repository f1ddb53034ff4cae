use engine::{Event, EventKind};
use serde_json::{Value, json};

use crate::parse::Version;

/// A line of `events`.
pub(crate) fn event(event: &Event, version: Version) -> Value {
    let mut value = json!({
        "Type": event.kind.as_str(),
        "Action": event.action,
        "Actor": { "ID": event.actor, "Attributes": event.attributes },
        "scope": "local",
        "time": event.time.as_second(),
        "timeNano": i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX),
    });
    // What events were before they had actors; gone with 1.52.
    if version <= Version(1, 51) && matches!(event.kind, EventKind::Container | EventKind::Image) {
        value["status"] = json!(event.action);
        value["id"] = json!(event.actor);
        if let Some(image) = event.attributes.get("image") {
            value["from"] = json!(image);
        }
    }
    value
}
