//! The form of a file against the JSON Schema: keys, types, and each value by itself.
//!
//! A general validator says "not valid under any of the given schemas"; this one knows the few constructs that
//! the generated schema has, and therefore what the writer probably meant. It returns the file as JSON, in which
//! numbers stand as strings, exactly as written, where the schema wants text.

use std::sync::LazyLock;

use serde_json::Value as Json;

use super::formats;
use crate::Diagnostic;
use crate::source::{Key, Node, Number, Span, Value};
use crate::suggest::{did_you_mean, list};

static SCHEMA: LazyLock<Json> = LazyLock::new(crate::json_schema);

/// Checks the file's root node; gives it back as JSON, or all problems.
pub(super) fn check(root: &Node, text: &str) -> Result<String, Vec<Diagnostic>> {
    let mut checker = Checker { text, problems: Vec::new(), json: String::new() };
    checker.node(&SCHEMA, root, &At { name: None, key: None });
    if checker.problems.is_empty() { Ok(checker.json) } else { Err(checker.problems) }
}

/// Where in the file a node is, for messages.
#[derive(Clone, Copy)]
struct At<'a> {
    /// The nearest key above the node: `steps` for a step too.
    name: Option<&'a str>,
    /// The node's own key, if it has one.
    key: Option<&'a Key>,
}

impl At<'_> {
    /// `the file`, `` `steps` `` or `` an entry of `steps` ``.
    fn place(&self) -> String {
        match (self.name, self.key) {
            (None, _) => "the file".to_owned(),
            (Some(name), Some(_)) => format!("`{name}`"),
            (Some(name), None) => format!("an entry of `{name}`"),
        }
    }
}

struct Checker<'a> {
    text: &'a str,
    problems: Vec<Diagnostic>,
    json: String,
}

impl Checker<'_> {
    fn problem(&mut self, span: &Span, message: String, help: Option<String>) {
        let diagnostic = Diagnostic::new(span.clone(), message);
        self.problems.push(match help {
            Some(help) => diagnostic.with_help(help),
            None => diagnostic,
        });
    }

    fn node(&mut self, schema: &Json, node: &Node, at: &At<'_>) {
        let branches = branches(schema);
        let fitting: Vec<&Json> = branches.iter().copied().filter(|branch| admits(branch, node)).collect();
        let Some(&first) = fitting.first() else {
            return self.wrong_type(&branches, node, at);
        };
        match &node.value {
            Value::Null => self.json.push_str("null"),
            Value::List(items) => self.list(first, node, items, at),
            Value::Map(entries) => self.map(first, node, entries, at),
            Value::Bool(_) | Value::Number(..) | Value::String(_) => self.scalar(&fitting, node, at),
        }
    }

    fn wrong_type(&mut self, branches: &[&Json], node: &Node, at: &At<'_>) {
        let format = branches.iter().filter_map(|branch| branch["format"].as_str()).next();
        if let (Value::Number(_, text), Some(format @ ("ci-duration" | "ci-size"))) = (&node.value, format) {
            // Not its type is what a number lacks, but its unit.
            return self.format(format, text, &node.span);
        }
        let mut expected: Vec<&str> = Vec::new();
        for name in branches.iter().flat_map(|branch| types(branch)) {
            let name = type_name(name);
            // What may be text is named once: "a string", not "a string, a number or a boolean".
            let covered = expected.contains(&"a string") && matches!(name, "a number" | "a boolean");
            if name != "nothing" && !covered && !expected.contains(&name) {
                expected.push(name);
            }
        }
        let expected = expected.join(" or ");
        let span = match at.key {
            Some(key) if matches!(node.value, Value::Null) => &key.span,
            _ => &node.span,
        };
        let help = self.help_with_type(branches, node, &expected);
        self.problem(span, format!("{} must be {expected}, not {}", at.place(), node.kind()), help);
    }

    fn help_with_type(&self, branches: &[&Json], node: &Node, expected: &str) -> Option<String> {
        let only_key = || match branches.first()?["required"].as_array()?.as_slice() {
            [key] => key.as_str(),
            _ => None,
        };
        match &node.value {
            Value::Null => Some("give it a value, or remove the key".to_owned()),
            Value::Bool(_) | Value::Number(..) if expected.contains("a string") => {
                node.text().map(|text| format!("put it in quotes: \"{text}\""))
            }
            Value::Map(_)
                if self.text[node.span.clone()].starts_with('{') && expected.contains("a string") =>
            {
                Some("`{` starts a map: put the text in quotes".to_owned())
            }
            Value::String(_) if expected == "a map" => only_key().map(|key| format!("write `{key}: …`")),
            _ => None,
        }
    }

    fn list(&mut self, schema: &Json, node: &Node, items: &[Node], at: &At<'_>) {
        if (items.len() as u64) < limit(schema, "minItems").unwrap_or(0) {
            let span = at.key.map_or(&node.span, |key| &key.span);
            self.problem(
                span,
                format!("{} is empty", at.place()),
                Some("give it at least one entry".to_owned()),
            );
        }
        self.json.push('[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.json.push(',');
            }
            self.node(&schema["items"], item, &At { name: at.name, key: None });
        }
        self.json.push(']');
    }

    fn map(&mut self, schema: &Json, node: &Node, entries: &[(Key, Node)], at: &At<'_>) {
        let span = at.key.map_or(&node.span, |key| &key.span).clone();
        if (entries.len() as u64) < limit(schema, "minProperties").unwrap_or(0) {
            self.problem(
                &span,
                format!("{} is empty", at.place()),
                Some("give it at least one entry".to_owned()),
            );
        }
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !entries.iter().any(|(key, _)| key.name == required) {
                let misspelt = entries.iter().any(|(key, _)| {
                    schema["properties"].get(&key.name).is_none()
                        && did_you_mean(&key.name, [required]).is_some()
                });
                if !misspelt {
                    self.problem(
                        &span,
                        format!("{} lacks the key `{required}`", at.place()),
                        describe(schema, required),
                    );
                }
            }
        }
        self.json.push('{');
        let mut first = true;
        for (key, value) in entries {
            let Some(value_schema) = self.key(schema, key, at) else { continue };
            if !std::mem::take(&mut first) {
                self.json.push(',');
            }
            self.json.push_str(&Json::from(key.name.as_str()).to_string());
            self.json.push(':');
            self.node(value_schema, value, &At { name: Some(&key.name), key: Some(key) });
        }
        self.json.push('}');
    }

    /// The schema of a key's value; none, and a problem, if the map has no such key.
    fn key<'s>(&mut self, schema: &'s Json, key: &Key, at: &At<'_>) -> Option<&'s Json> {
        let properties = &schema["properties"];
        if let Some(property) = properties.get(&key.name) {
            return Some(property);
        }
        let other = schema.get("additionalProperties").filter(|other| other.is_object());
        let Some(other) = other else {
            let mut known: Vec<&str> =
                properties.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            // serde_json keeps the order or not, as the features of the whole build have it.
            known.sort_unstable();
            let help = did_you_mean(&key.name, known.iter().copied())
                .unwrap_or_else(|| format!("the keys of {} are {}", at.place(), list(&known)));
            self.problem(&key.span, format!("unknown key `{}` in {}", key.name, at.place()), Some(help));
            return None;
        };
        if let Some(format) = schema["propertyNames"]["format"].as_str() {
            self.format(format, &key.name, &key.span);
        }
        Some(other)
    }

    fn scalar(&mut self, fitting: &[&Json], node: &Node, at: &At<'_>) {
        let text = node.text().unwrap_or_default();
        let constants: Vec<&str> = fitting.iter().flat_map(|branch| constants(branch)).collect();
        let free = fitting.iter().copied().find(|branch| self::constants(branch).is_empty());
        let wants_text = fitting.iter().any(|branch| types(branch).contains(&"string"));
        if wants_text {
            self.json.push_str(&Json::from(text).to_string());
            if text.contains('\0') {
                self.problem(&node.span, format!("{} has a NUL character", at.place()), None);
            } else if let Some(free) = free {
                self.format(free["format"].as_str().unwrap_or_default(), text, &node.span);
            } else if !constants.contains(&text) {
                let help = did_you_mean(text, constants.iter().copied())
                    .unwrap_or_else(|| format!("it can be {}", list(&constants)));
                self.problem(&node.span, format!("{} cannot be `{text}`", at.place()), Some(help));
            }
            return;
        }
        match node.value {
            Value::Bool(value) => self.json.push_str(&value.to_string()),
            Value::Number(number, _) => self.number(fitting[0], number, node, at),
            _ => self.json.push_str("null"),
        }
    }

    fn number(&mut self, schema: &Json, number: Number, node: &Node, at: &At<'_>) {
        let (value, json) = match number {
            Number::Unsigned(n) => (n as f64, n.to_string()),
            Number::Signed(n) => (n as f64, n.to_string()),
            Number::Float(n) => (n, Json::from(n).to_string()),
        };
        self.json.push_str(&json);
        let (minimum, maximum) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        // Written so that not-a-number is refused too.
        let within =
            value.is_finite() && minimum.is_none_or(|m| value >= m) && maximum.is_none_or(|m| value <= m);
        if !within {
            let bound =
                |bound: Option<f64>| bound.map_or_else(|| "any".to_owned(), |bound| bound.to_string());
            let help = format!("it is a number from {} to {}", bound(minimum), bound(maximum));
            let text = node.text().unwrap_or_default();
            self.problem(&node.span, format!("{} cannot be {text}", at.place()), Some(help));
        }
    }

    fn format(&mut self, format: &str, text: &str, span: &Span) {
        if let Err(formats::Problem { message, help, part }) = formats::check(format, text) {
            let span = part.map_or_else(|| span.clone(), |part| super::part_of(self.text, span, &part));
            self.problem(&span, message, help);
        }
    }
}

/// The alternatives of a schema, references followed.
fn branches(schema: &Json) -> Vec<&Json> {
    if let Some(target) = schema["$ref"].as_str() {
        return SCHEMA.pointer(target.trim_start_matches('#')).map(branches).unwrap_or_default();
    }
    match schema["anyOf"].as_array().or(schema["oneOf"].as_array()) {
        Some(alternatives) => alternatives.iter().flat_map(branches).collect(),
        None => vec![schema],
    }
}

fn types(schema: &Json) -> Vec<&str> {
    match &schema["type"] {
        Json::Array(types) => types.iter().filter_map(Json::as_str).collect(),
        other => other.as_str().into_iter().collect(),
    }
}

/// The strings that alone are allowed; none if any is.
fn constants(schema: &Json) -> Vec<&str> {
    let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Json::as_str);
    listed.chain(schema["const"].as_str()).collect()
}

fn admits(schema: &Json, node: &Node) -> bool {
    let whole = |number: &Number| !matches!(number, Number::Float(_));
    types(schema).into_iter().any(|name| match &node.value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::Number(number, _) => name == "number" || (name == "integer" && whole(number)),
        Value::String(_) => name == "string",
        Value::List(_) => name == "array",
        Value::Map(_) => name == "object",
    })
}

fn type_name(name: &str) -> &'static str {
    match name {
        "string" => "a string",
        "boolean" => "a boolean",
        "integer" => "a whole number",
        "number" => "a number",
        "array" => "a list",
        "object" => "a map",
        _ => "nothing",
    }
}

fn limit(schema: &Json, name: &str) -> Option<u64> {
    schema[name].as_u64()
}

/// A key's description, as help for whoever left it out.
fn describe(schema: &Json, key: &str) -> Option<String> {
    let description = schema["properties"][key]["description"].as_str()?;
    Some(format!("`{key}`: {}", description.replace('\n', " ")))
}
