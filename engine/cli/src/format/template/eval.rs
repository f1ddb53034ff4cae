use serde_json::{Map, Value};

use super::functions::{self, Called};
use super::parse::{Branch, Kind, Node, Operand, Pipe};
use super::{TemplateError, print};

/// Rounds of a `range` over a number, and levels of parentheses, are what the template says; this bounds the first.
const COUNT_MAX: i64 = 1_000_000;

/// Members of Docker's objects that are maps, where a key that is not there is no mistake.
const MAPS: [&str; 19] = [
    "Labels",
    "Options",
    "DriverOpts",
    "Networks",
    "Ports",
    "Volumes",
    "ExposedPorts",
    "Sysctls",
    "Tmpfs",
    "Annotations",
    "PortBindings",
    "Config",
    "Data",
    "StorageOpt",
    "Containers",
    "Runtimes",
    "Status",
    "Attributes",
    "IndexConfigs",
];

/// What a field that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A mistake: the template is for objects of a kind, whose fields are known.
    Unknown(&'static str),
    /// A mistake, told as Go tells it of a map.
    NoEntry,
}

/// What a template is filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) value: &'a Value,
    /// What `.Label "name"` looks in.
    pub(crate) labels: Option<&'a Map<String, Value>>,
    pub(crate) missing: Missing,
    /// Column headers, which functions leave as they are.
    pub(crate) header: bool,
}

/// What happens after a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct State<'a> {
    source: &'a str,
    subject: Subject<'a>,
    variables: Vec<(String, Value)>,
    out: String,
}

pub(super) fn render(nodes: &[Node], source: &str, subject: Subject<'_>) -> Result<String, TemplateError> {
    let variables = vec![("$".to_owned(), subject.value.clone())];
    let mut state = State { source, subject, variables, out: String::new() };
    state.walk(nodes, subject.value)?;
    Ok(state.out)
}

impl State<'_> {
    fn walk(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, TemplateError> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Break => return Ok(Flow::Break),
                Node::Continue => return Ok(Flow::Continue),
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.out.push_str(&print::text(&value));
                    }
                }
                Node::Branch { kind, pipe, then, otherwise } => {
                    let known = self.variables.len();
                    let flow = self.branch(*kind, pipe, [then, otherwise], dot)?;
                    self.variables.truncate(known);
                    if flow != Flow::On {
                        return Ok(flow);
                    }
                }
            }
        }
        Ok(Flow::On)
    }

    fn branch(
        &mut self,
        kind: Branch,
        pipe: &Pipe,
        [then, otherwise]: [&[Node]; 2],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        if kind == Branch::Range {
            return self.range(pipe, [then, otherwise], dot);
        }
        let value = self.pipe(pipe, dot)?;
        match (functions::truth(&value), kind) {
            (true, Branch::With) => self.walk(then, &value),
            (true, _) => self.walk(then, dot),
            (false, _) => self.walk(otherwise, dot),
        }
    }

    fn range(
        &mut self,
        pipe: &Pipe,
        [then, otherwise]: [&[Node]; 2],
        dot: &Value,
    ) -> Result<Flow, TemplateError> {
        let bare = Pipe { variables: Vec::new(), assign: false, commands: pipe.commands.clone() };
        let elements: Vec<(Value, Value)> = match self.pipe(&bare, dot)? {
            Value::Array(items) => items.into_iter().enumerate().map(|(n, item)| (n.into(), item)).collect(),
            Value::Object(members) => {
                let mut members: Vec<_> = members.into_iter().collect();
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                members.into_iter().map(|(key, value)| (key.into(), value)).collect()
            }
            Value::Number(count) => {
                let count = count.as_i64().unwrap_or(0).min(COUNT_MAX);
                (0..count).map(|n| (n.into(), n.into())).collect()
            }
            Value::Null => Vec::new(),
            other => {
                let what = format!("range can't iterate over {}", print::text(&other));
                return Err(self.error(&pipe.commands[0][0], &what));
            }
        };
        if elements.is_empty() {
            return self.walk(otherwise, dot);
        }
        for (key, value) in elements {
            let known = self.variables.len();
            match pipe.variables.as_slice() {
                [one] => self.variables.push((one.clone(), value.clone())),
                [first, second] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), value.clone()));
                }
                _ => {}
            }
            let flow = self.walk(then, &value)?;
            self.variables.truncate(known);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value, dot)?);
        }
        let value = value.unwrap_or_default();
        for name in &pipe.variables {
            let known = self.variables.iter_mut().rev().find(|(known, _)| pipe.assign && known == name);
            match known {
                Some((_, variable)) => *variable = value.clone(),
                None => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        operands: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, TemplateError> {
        let (first, rest) = (&operands[0], &operands[1..]);
        let name = match &first.kind {
            Kind::Function(name) => name,
            Kind::Dot if first.fields == ["Label"] && self.subject.labels.is_some() => "Label",
            _ if rest.is_empty() && piped.is_none() => return self.operand(first, dot),
            _ => {
                let what = format!("can't give argument to non-function {}", shown(first));
                return Err(self.error(first, &what));
            }
        };
        // These two stop as soon as the answer is known.
        if let ("and" | "or", true) = (name, !rest.is_empty()) {
            let mut value = Value::Null;
            for operand in rest {
                value = self.operand(operand, dot)?;
                if functions::truth(&value) == (name == "or") {
                    return Ok(value);
                }
            }
            return Ok(piped.unwrap_or(value));
        }
        let mut arguments = Vec::new();
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        if name == "Label" {
            return Ok(self.label(&arguments));
        }
        let called = if self.subject.header { functions::call_on_header } else { functions::call };
        let value = match called(name, arguments) {
            Called::Value(value) => value,
            Called::Failed(what) => {
                let what = format!("error calling {name}: {what}");
                return Err(self.error(first, &what));
            }
            Called::Arguments(what) => return Err(self.error(first, &what)),
        };
        self.fields(value, first, &first.fields, None)
    }

    fn label(&self, arguments: &[Value]) -> Value {
        let name = arguments.first().and_then(Value::as_str).unwrap_or_default();
        if self.subject.header {
            // As Docker: the name's last part, its words apart.
            let last = name.rsplit('.').next().unwrap_or(name);
            return last.replace(['-', '_'], " ").into();
        }
        self.subject.labels.and_then(|labels| labels.get(name)).cloned().unwrap_or_else(|| "".into())
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let (value, within) = match &operand.kind {
            Kind::Dot => (dot.clone(), std::ptr::eq(dot, self.subject.value)),
            Kind::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                (found.map(|(_, value)| value.clone()).unwrap_or_default(), name == "$")
            }
            Kind::Text(text) => return Ok(text.clone().into()),
            Kind::Number(number) => return Ok(Value::Number(number.clone())),
            Kind::Bool(on) => return Ok((*on).into()),
            Kind::Nil => return Ok(Value::Null),
            Kind::Function(_) => {
                let call = std::slice::from_ref(operand);
                return self.command(call, None, dot);
            }
            Kind::Pipe(pipe) => (self.pipe(pipe, dot)?, false),
        };
        let outer = match self.subject.missing {
            Missing::Unknown(kind) if within => Some(kind),
            _ => None,
        };
        self.fields(value, operand, &operand.fields, outer)
    }

    /// Follows fields; `outer` is what the first is a field of, if that is of a known kind.
    fn fields(
        &self,
        mut value: Value,
        operand: &Operand,
        fields: &[String],
        mut outer: Option<&str>,
    ) -> Result<Value, TemplateError> {
        let mut within: Option<&str> = None;
        for field in fields {
            let in_map = within.is_some_and(|name| MAPS.contains(&name));
            value = match value {
                Value::Object(mut members) => match members.swap_remove(field) {
                    Some(member) => member,
                    None if in_map => Value::Null,
                    None => {
                        let what = match outer {
                            Some(kind) => format!("can't evaluate field {field} in type {kind}"),
                            None => format!("map has no entry for key {field:?}"),
                        };
                        return Err(self.error(operand, &what));
                    }
                },
                Value::Null if in_map => Value::Null,
                Value::Null => {
                    let what = format!("nil pointer evaluating interface {{}}.{field}");
                    return Err(self.error(operand, &what));
                }
                _ => {
                    let what = format!("can't evaluate field {field} in type interface {{}}");
                    return Err(self.error(operand, &what));
                }
            };
            within = Some(field);
            outer = None;
        }
        Ok(value)
    }

    fn error(&self, operand: &Operand, what: &str) -> TemplateError {
        let before = &self.source[..operand.at.min(self.source.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let shown = shown(operand);
        TemplateError(format!("template: :{line}:{column}: executing \"\" at <{shown}>: {what}"))
    }
}

/// An operand as errors show it.
fn shown(operand: &Operand) -> String {
    let fields: String = operand.fields.iter().map(|field| format!(".{field}")).collect();
    match &operand.kind {
        Kind::Dot if fields.is_empty() => ".".to_owned(),
        Kind::Dot => fields,
        Kind::Variable(name) | Kind::Function(name) => format!("{name}{fields}"),
        Kind::Text(text) => print::quoted(text),
        Kind::Number(number) => number.to_string(),
        Kind::Bool(on) => on.to_string(),
        Kind::Nil => "nil".to_owned(),
        Kind::Pipe(_) => format!("(…){fields}"),
    }
}
