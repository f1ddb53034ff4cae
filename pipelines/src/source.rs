//! A YAML file as a tree of nodes that know where they stand.
//!
//! serde-saphyr reads it: it refuses duplicate keys, and its budget ends a bomb of aliases before it is expanded.

use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error as YamlError, Location, Spanned};

use crate::Diagnostic;

/// The largest pipeline file, in bytes. GitLab's limit is the same; the largest real files are a tenth of it.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// The most nodes (scalars, lists and maps) that a file may have once its aliases are expanded.
pub const MAX_NODES: usize = 50_000;
/// The deepest nesting of lists and maps. The format itself needs eight.
pub const MAX_DEPTH: usize = 32;

/// Byte offsets into the file.
pub(crate) type Span = Range<usize>;

/// One YAML node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// A map's key, or a scalar that was found where a key is expected.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) span: Span,
}

/// What a YAML node holds, scalars resolved by YAML 1.2's core schema.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A number and how it is written: `1.10` is a version to whoever wrote it.
    Number(Number, String),
    String(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Node {
    /// The kind's name in messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Number(..) => "a number",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The value below a key of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, node)| node)
    }

    /// A map's key and value.
    pub(crate) fn entry(&self, key: &str) -> Option<(&Key, &Node)> {
        self.entries().iter().find(|(k, _)| k.name == key).map(|(k, node)| (k, node))
    }

    /// A map's entries in the file's order; none for other kinds.
    pub(crate) fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// A list's items; none for other kinds.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// A string's text, or how a number or boolean is written.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) | Value::Number(_, text) => Some(text),
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// Reads one YAML document.
pub(crate) fn parse(text: &str) -> Result<Node, Diagnostic> {
    if text.len() > MAX_FILE_BYTES {
        return Err(Diagnostic::new(0..0, format!("the file has {} bytes", text.len()))
            .with_help(format!("a pipeline file may have at most {MAX_FILE_BYTES} bytes")));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES, max_events: 4 * MAX_NODES, max_depth: MAX_DEPTH },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_NODES },
        // `on` and `yes` are strings, as in YAML 1.2: `on` is a key of this format.
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Tree>>(text, options)
        .map(|tree| tree_to_node(tree, text))
        .map_err(|error| syntax_error(&error, text))
}

/// What serde sees of a node before spans and the numbers' own text are attached.
enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<Tree>, Spanned<Tree>)>),
}

fn tree_to_node(tree: Spanned<Tree>, text: &str) -> Node {
    let Spanned { value, referenced, defined } = tree;
    let value = match value {
        Tree::Null => Value::Null,
        Tree::Bool(bool) => Value::Bool(bool),
        Tree::Number(number) => Value::Number(number, written(text, &defined, number)),
        Tree::String(string) => Value::String(string),
        Tree::List(items) => Value::List(items.into_iter().map(|item| tree_to_node(item, text)).collect()),
        Tree::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| (tree_to_key(key, text), tree_to_node(value, text)))
                .collect(),
        ),
    };
    Node { value, span: span_of(&referenced, text) }
}

fn tree_to_key(tree: Spanned<Tree>, text: &str) -> Key {
    let node = tree_to_node(tree, text);
    Key { name: node.text().unwrap_or_default().to_owned(), span: node.span }
}

fn written(text: &str, defined: &Location, number: Number) -> String {
    let source = text.get(span_of(defined, text)).unwrap_or_default().trim();
    if source.is_empty() {
        return match number {
            Number::Unsigned(n) => n.to_string(),
            Number::Signed(n) => n.to_string(),
            Number::Float(n) => n.to_string(),
        };
    }
    source.to_owned()
}

/// A location's bytes, within the text and on character boundaries whatever the parser says.
fn span_of(location: &Location, text: &str) -> Span {
    let index = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    let (start, length) = match (location.span().byte_offset(), location.span().byte_len()) {
        (Some(offset), Some(length)) => (index(offset), index(length)),
        // Errors of the scanner have a line and a column only.
        _ => (offset_of(text, index(location.line()), index(location.column())), 0),
    };
    let start = floor_char_boundary(text, start);
    let end = floor_char_boundary(text, start.saturating_add(length));
    start..end.max(start)
}

/// The byte at a line and a column of characters, both counted from one.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = &text[before..];
    before + rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(i, _)| i)
}

fn floor_char_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

fn syntax_error(error: &YamlError, text: &str) -> Diagnostic {
    let mut error = error.without_snippet();
    while let YamlError::AliasError { error: inner, .. } = error {
        error = inner;
    }
    let span = error.location().map_or(0..0, |location| span_of(&location, text));
    match error {
        YamlError::DuplicateMappingKey { key, .. } => {
            Diagnostic::new(span, format!("duplicate key `{}`", key.as_deref().unwrap_or("?")))
                .with_help("keep one of the two".to_owned())
        }
        YamlError::MultipleDocuments { .. } => {
            Diagnostic::new(span, "the file has more than one YAML document".to_owned())
                .with_help("a pipeline is one document: remove the `---` line".to_owned())
        }
        YamlError::UnsupportedTag { .. } => {
            Diagnostic::new(span, "an exclamation mark starts a YAML tag".to_owned())
                .with_help("put the text in quotes: `when: \"!pr\"`".to_owned())
        }
        YamlError::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            Diagnostic::new(span, "lists and maps are nested too deep".to_owned())
                .with_help(format!("at most {MAX_DEPTH} in each other are read"))
        }
        YamlError::Budget { .. } => Diagnostic::new(span, "the file has too many entries".to_owned())
            .with_help(format!("at most {MAX_NODES} keys, values, lists and maps are read")),
        YamlError::AliasReplayLimitExceeded { .. }
        | YamlError::AliasExpansionLimitExceeded { .. }
        | YamlError::AliasReplayStackDepthExceeded { .. } => {
            Diagnostic::new(span, "the YAML is too large once its aliases are expanded".to_owned())
                .with_help(format!("at most {MAX_NODES} keys, values, lists and maps are read"))
        }
        other => Diagnostic::new(span, format!("not valid YAML: {}", first_line(&other.to_string()))),
    }
}

fn first_line(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default();
    // serde-saphyr ends its messages with the place, which the diagnostic shows by itself.
    line.find(" at line ").map_or(line, |end| &line[..end])
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML node")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(Number::Unsigned(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(u64::try_from(value).map_or(Number::Signed(value), Number::Unsigned)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Number(Number::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}
