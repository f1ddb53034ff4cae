use serde_json::{Value, json};

use super::template::{Missing, Template};
use crate::client::ClientError;
use crate::failure::Failure;
use crate::output;

/// What was found of what was asked for, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Inspected {
    found: Vec<Value>,
    errors: Vec<String>,
}

/// The code for a template that does not fit.
const BAD_TEMPLATE: u8 = 64;

impl Inspected {
    pub(crate) fn add(&mut self, object: Value) {
        self.found.push(object);
    }

    /// Keeps what went wrong with one, so that the others are shown all the same.
    pub(crate) fn add_error(&mut self, error: impl std::fmt::Display) {
        self.errors.push(error.to_string());
    }

    /// Takes an answer, keeping a refusal for later; what breaks the connection ends it all.
    pub(crate) fn take(&mut self, answer: Result<Value, ClientError>) -> anyhow::Result<()> {
        match answer {
            Ok(object) => self.add(object),
            Err(error @ ClientError::Answer { .. }) => self.add_error(error),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Prints objects whole as JSON, or by a template; then what went wrong.
pub(crate) fn inspect(inspected: Inspected, format: Option<&str>) -> anyhow::Result<()> {
    let Inspected { found, errors } = inspected;
    let mut out = String::new();
    match format.filter(|text| !text.is_empty()) {
        None => out = indented(&json!(found)) + "\n",
        // As Docker: the whole list in one line.
        Some("json") => out = json!(found).to_string() + "\n",
        Some(text) => {
            let bad = |error| Failure::new(BAD_TEMPLATE, format!("template parsing error: {error}"));
            let template = Template::parse(text).map_err(bad)?;
            for object in &found {
                let line = template
                    .render(object, Missing::NoEntry)
                    .map_err(|error| Failure::new(1, format!("template parsing error: {error}")));
                match line {
                    Ok(line) => out.push_str(&(line + "\n")),
                    Err(error) => {
                        output::text(&(out + "\n"))?;
                        return Err(error.into());
                    }
                }
            }
            if found.is_empty() {
                out.push('\n');
            }
        }
    }
    output::text(&out)?;
    if errors.is_empty() { Ok(()) } else { Err(Failure::new(1, errors.join("\n")).into()) }
}

/// JSON as Docker lays it out: four spaces a level, empty lists and objects in one line.
pub(crate) fn indented(value: &Value) -> String {
    use serde::Serialize as _;
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter));
    match written {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(_) => value.to_string(),
    }
}
