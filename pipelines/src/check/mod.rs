//! From a file's text to a [`Pipeline`], or to everything that is wrong with it.
//!
//! First the form is checked (keys, types, values, each by itself) against the JSON Schema; then, if that is in
//! order, the meaning (needs, matrices, variables), which spans several places of the file.

mod formats;
mod meaning;
mod structure;

use crate::source::{self, Span, Value};
use crate::{Diagnostic, Diagnostics, Pipeline};

pub(crate) use formats::is_image_reference;
pub use meaning::{MAX_JOBS, MAX_MATRIX_JOBS};

impl Pipeline {
    /// Reads and checks a `pipeline.yaml`. The name is the file's, for messages.
    ///
    /// A pipeline returned from here expands ([`Pipeline::expand`]) in any context, unless a variable that is
    /// only sometimes there, or not what its place wants, is named in it.
    pub fn parse(name: &str, text: &str) -> Result<Self, Diagnostics> {
        let failed = |all| Diagnostics::new(name, text, all);
        let root = source::parse(text).map_err(|diagnostic| failed(vec![diagnostic]))?;
        if matches!(root.value, Value::Null) {
            let help = "the smallest pipeline is `image: busybox` and `jobs: { hello: { steps: [{ run: echo hello }] } }`";
            return Err(failed(vec![Diagnostic::new(0..0, "the file is empty").with_help(help)]));
        }
        let json = structure::check(&root, text).map_err(failed)?;
        let pipeline: Self = serde_json::from_str(&json).map_err(|error| {
            // The schema admits only what the types read; a gap between the two still gets a message.
            failed(vec![Diagnostic::new(root.span.clone(), format!("not a pipeline: {error}"))])
        })?;
        let problems = meaning::check(&pipeline, &root, text);
        if problems.is_empty() { Ok(pipeline) } else { Err(failed(problems)) }
    }
}

/// Where a part of a node's text stands in the file; the whole node if it is written otherwise there.
fn part_of(text: &str, node: &Span, part: &str) -> Span {
    match text[node.clone()].find(part) {
        Some(offset) => node.start + offset..node.start + offset + part.len(),
        None => node.clone(),
    }
}

#[cfg(test)]
mod tests;
