//! The short forms that the file allows, turned into the one form the model has.

use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A string is a list of one.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(item) => vec![item],
        OneOrMany::Many(items) => items,
    })
}

/// A list of commands is a script with a line for each.
pub(super) fn script<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(script) => script,
        OneOrMany::Many(commands) => commands.join("\n"),
    })
}
