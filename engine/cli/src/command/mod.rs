//! One file a command; what several of them share is here.

pub(crate) mod container;
pub(crate) mod daemon;
pub(crate) mod image;
pub(crate) mod inspect;
pub(crate) mod network;
pub(crate) mod system;
pub(crate) mod volume;

use std::process::ExitCode;

use futures::StreamExt as _;
use serde_json::{Map, Value};

use crate::client::ClientError;
use crate::failure::Failure;
use crate::output;
use crate::units::bytes as bytes_text;

/// How many requests of a command are under way at once.
const AT_ONCE: usize = 50;

/// Does something to each of several things, many at once, and prints the names of those it was done to. What went
/// wrong with others is told together at the end.
pub(crate) async fn for_each<'a, F>(
    names: &'a [String],
    action: impl Fn(&'a str) -> F,
) -> anyhow::Result<ExitCode>
where
    F: Future<Output = Result<(), ClientError>>,
{
    let mut done = std::pin::pin!(
        futures::stream::iter(names)
            .map(|name| {
                let done = action(name);
                async move { (name, done.await) }
            })
            .buffered(AT_ONCE)
    );
    let mut errors = Errors::default();
    while let Some((name, result)) = done.next().await {
        if errors.keep(result)?.is_some() {
            output::line(name)?;
        }
    }
    errors.finish()
}

/// What the daemon refused, while a command went on with others.
#[derive(Debug, Default)]
pub(crate) struct Errors(Vec<String>);

impl Errors {
    /// Keeps a refusal for later; whatever else goes wrong ends the command.
    pub(crate) fn keep<T>(&mut self, result: Result<T, ClientError>) -> anyhow::Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error @ ClientError::Answer { .. }) => {
                self.0.push(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) fn finish(self) -> anyhow::Result<ExitCode> {
        if self.0.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure::new(1, self.0.join("\n")).into()) }
    }
}

/// Checks a `--filter`.
pub(crate) fn filter_text(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains('=') {
        return Ok(text.to_owned());
    }
    Err("bad format of filter (expected name=value)".to_owned())
}

/// `--filter name=value`s as the API's `filters`.
pub(crate) fn filters(given: &[String]) -> Value {
    let mut all = Map::new();
    for text in given {
        add_filter(&mut all, text);
    }
    all.into()
}

pub(crate) fn add_filter(all: &mut Map<String, Value>, text: &str) {
    if text.is_empty() {
        return;
    }
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let values = all.entry(name.trim().to_lowercase()).or_insert_with(|| Vec::<Value>::new().into());
    if let Some(values) = values.as_array_mut() {
        values.push(value.trim().into());
    }
}

/// An object's labels, as a column shows them.
pub(crate) fn label_column(labels: &Value) -> String {
    let mut all: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    all.sort();
    all.join(",")
}

/// A name that is to be part of a path; the daemon would take an empty one for another request.
pub(crate) fn named<'a>(what: &str, name: &'a str) -> Result<&'a str, ClientError> {
    let name = name.trim();
    if name.is_empty() {
        return Err(ClientError::Request(format!("invalid {what} name or ID: value is empty")));
    }
    Ok(name)
}

/// Prints what `prune` has removed, a list of ids or names.
pub(crate) fn print_pruned(title: &str, removed: &Value) -> anyhow::Result<()> {
    let removed: Vec<&str> = removed.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !removed.is_empty() {
        output::line(format_args!("{title}:\n{}\n", removed.join("\n")))?;
    }
    Ok(())
}

/// The space that several answers of `prune` have freed.
pub(crate) fn reclaimed(answers: &[&Value]) -> String {
    let bytes: f64 = answers.iter().filter_map(|answer| answer["SpaceReclaimed"].as_f64()).sum();
    format!("Total reclaimed space: {}", bytes_text(bytes))
}
