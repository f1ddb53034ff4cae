//! Go's text templates over JSON, as `--format` takes them: <https://pkg.go.dev/text/template>.
//!
//! It is not the `gtmpl` crate, because that one ranges over maps in no order, runs the `else` of a `range` that had
//! elements, and keeps objects in hash maps, so that `{{json .}}` would show members in another order each time.

mod eval;
mod functions;
mod lex;
mod parse;
mod print;

use serde_json::Value;

pub(crate) use eval::{Missing, Subject};

/// A template that has been read.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
    source: String,
}

/// Why a template is none, or does not fit what it is filled with; in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TemplateError(String);

impl Template {
    pub(crate) fn parse(source: &str) -> Result<Self, TemplateError> {
        let nodes = parse::parse(source)?;
        Ok(Self { nodes, source: source.to_owned() })
    }

    /// Fills it with a value.
    pub(crate) fn render(&self, value: &Value, missing: Missing) -> Result<String, TemplateError> {
        self.render_subject(Subject { value, labels: None, missing, header: false })
    }

    /// Fills it with a row of a table, or its header.
    pub(crate) fn render_subject(&self, subject: Subject<'_>) -> Result<String, TemplateError> {
        eval::render(&self.nodes, &self.source, subject)
    }

    /// Whether it shows this field of what it is filled with.
    pub(crate) fn uses(&self, field: &str) -> bool {
        parse::uses(&self.nodes, field)
    }
}

#[cfg(test)]
mod tests;
