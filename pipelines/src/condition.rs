//! `when`: conditions in CEL, the Common Expression Language.
//!
//! A condition sees `branch`, `tag`, `event`, `commit`, `repo` (strings, empty where they do not apply), `pr`
//! (whether a pull request started the run), `env` and `matrix` (maps of strings), and in steps `status`
//! (`"success"` or `"failure"`, the job's so far).

use std::collections::HashMap;
use std::fmt;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::{Program, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::Env;
use crate::suggest::{did_you_mean, list};
use crate::{Context, Event};

/// The longest condition, in bytes.
pub const MAX_CONDITION_BYTES: usize = 1024;
/// How deep `all`, `exists`, `map` and `filter` may be nested: with the length, what bounds an evaluation's time.
pub const MAX_CONDITION_LOOPS: usize = 2;

const VARIABLES: [&str; 8] = ["branch", "commit", "env", "event", "matrix", "pr", "repo", "tag"];
const STATUS: &str = "status";
const FUNCTIONS: [&str; 7] = ["contains", "endsWith", "int", "matches", "size", "startsWith", "string"];

/// A CEL expression that is true or false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Condition(String);

/// How a job's steps went so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No step has failed.
    Success,
    /// A step has failed, or the job timed out or was cancelled.
    Failure,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "success",
            Self::Failure => "failure",
        })
    }
}

/// What a condition is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the run is about.
    pub context: &'a Context,
    /// The job's variables, and the step's own.
    pub env: &'a Env,
    /// The job's combination of the matrix.
    pub matrix: &'a Env,
    /// The job's status so far; `None` before it starts.
    pub status: Option<Status>,
}

/// Why a condition is wrong, or has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionError {
    /// Longer than [`MAX_CONDITION_BYTES`].
    #[error("the condition has more than {MAX_CONDITION_BYTES} bytes")]
    TooLong,
    /// Not CEL.
    #[error("not a CEL expression: {message}")]
    Syntax {
        /// What the parser says.
        message: String,
        /// The line of the expression, from one.
        line: usize,
        /// The column, from one.
        column: usize,
    },
    /// An identifier that conditions do not have.
    #[error("unknown variable `{0}`")]
    UnknownVariable(String),
    /// A function that conditions do not have.
    #[error("unknown function `{0}`")]
    UnknownFunction(String),
    /// `status` in a job's condition, which is asked before the job has one.
    #[error("`status` is known only in steps")]
    StatusOfJob,
    /// More loops in each other than [`MAX_CONDITION_LOOPS`].
    #[error("loops are nested more than {MAX_CONDITION_LOOPS} deep")]
    TooManyLoops,
    /// A value that is neither true nor false.
    #[error("the condition is {0}, not true or false")]
    NotBool(&'static str),
    /// It failed while it was evaluated.
    #[error("the condition `{condition}` cannot be evaluated: {message}")]
    Evaluation {
        /// The expression.
        condition: String,
        /// What the interpreter says.
        message: String,
    },
}

impl ConditionError {
    /// What to do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::UnknownVariable(name) => {
                let known: Vec<_> = VARIABLES.into_iter().chain([STATUS]).collect();
                Some(
                    did_you_mean(name, known.iter().copied())
                        .unwrap_or_else(|| format!("a condition has {}", list(&known))),
                )
            }
            Self::UnknownFunction(name) => Some(
                did_you_mean(name, FUNCTIONS)
                    .unwrap_or_else(|| format!("a condition has {}", list(&FUNCTIONS))),
            ),
            Self::NotBool(_) => Some("compare it with something: `branch == \"main\"`".to_owned()),
            Self::StatusOfJob => Some("jobs run when all that they need succeeded".to_owned()),
            Self::Evaluation { .. } => {
                Some("a variable that may be absent is asked for with `has(env.NAME)` first".to_owned())
            }
            Self::TooLong | Self::Syntax { .. } | Self::TooManyLoops => None,
        }
    }
}

impl Condition {
    /// Checks a job's condition.
    pub(crate) fn check_job(source: &str) -> Result<(), ConditionError> {
        Self::check(source, None)
    }

    /// Checks a step's condition, which knows `status` too.
    pub(crate) fn check_step(source: &str) -> Result<(), ConditionError> {
        Self::check(source, Some(Status::Success))
    }

    fn check(source: &str, status: Option<Status>) -> Result<(), ConditionError> {
        let program = compile(source, status.is_some())?;
        let (context, env) = (Context::default(), Env::new());
        let facts = Facts { context: &context, env: &env, matrix: &env, status };
        // Any facts show the type; that these ones lack a variable says nothing of the real ones.
        match evaluate(source, &program, facts) {
            Err(error @ ConditionError::NotBool(_)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Answers the condition.
    pub fn holds(&self, facts: Facts<'_>) -> Result<bool, ConditionError> {
        evaluate(&self.0, &compile(&self.0, facts.status.is_some())?, facts)
    }

    /// Whether the expression asks for `status`, so that it has a say after a step has failed.
    pub(crate) fn names_status(&self) -> bool {
        Program::compile(&self.0).is_ok_and(|program| program.references().has_variable(STATUS))
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn compile(source: &str, in_step: bool) -> Result<Program, ConditionError> {
    if source.len() > MAX_CONDITION_BYTES {
        return Err(ConditionError::TooLong);
    }
    let program = Program::compile(source).map_err(|errors| {
        let first = errors.errors.into_iter().next();
        let (line, column) = first.as_ref().map_or((1, 1), |error| error.pos);
        let message = first.map(|error| plain(&error.msg)).unwrap_or_default();
        let from_one = |n: isize| usize::try_from(n).unwrap_or(1).max(1);
        ConditionError::Syntax { message, line: from_one(line), column: from_one(column) }
    })?;
    Walk { in_step, scope: Vec::new() }.expression(program.expression())?;
    Ok(program)
}

/// The parser's message without the list of all the tokens it would have taken.
fn plain(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting ").next().unwrap_or(message);
    message.replace("'<EOF>'", "end").trim().to_owned()
}

fn evaluate(source: &str, program: &Program, facts: Facts<'_>) -> Result<bool, ConditionError> {
    let Facts { context, env, matrix, status } = facts;
    let mut cel = cel::Context::default();
    let strings = [
        ("branch", &context.branch),
        ("commit", &context.commit),
        ("repo", &context.repo),
        ("tag", &context.tag),
        ("event", &context.event.to_string()),
    ];
    for (name, value) in strings {
        cel.add_variable_from_value(name, value.clone());
    }
    cel.add_variable_from_value("pr", Value::Bool(context.event == Event::PullRequest));
    for (name, values) in [("env", env), ("matrix", matrix)] {
        let values: HashMap<String, String> = values.clone().into_iter().collect();
        cel.add_variable_from_value(name, values);
    }
    if let Some(status) = status {
        cel.add_variable_from_value(STATUS, status.to_string());
    }
    match program.execute(&cel) {
        Ok(Value::Bool(holds)) => Ok(holds),
        Ok(other) => Err(ConditionError::NotBool(kind(&other))),
        Err(error) => {
            Err(ConditionError::Evaluation { condition: source.to_owned(), message: error.to_string() })
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        Value::Null => "null",
        _ => "another value",
    }
}

/// Looks for names that conditions do not have.
struct Walk<'a> {
    in_step: bool,
    /// The variables of the loops around the expression.
    scope: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn expression(&mut self, expression: &'a IdedExpr) -> Result<(), ConditionError> {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) => self.identifier(name),
            Expr::Select(select) => self.expression(&select.operand),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.expression(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(value) => Err(ConditionError::UnknownFunction(value.type_name.clone())),
            Expr::Call(call) => {
                let named = call.func_name.starts_with(|c: char| c.is_ascii_alphabetic());
                if named && call.func_name != "in" && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    return Err(ConditionError::UnknownFunction(call.func_name.clone()));
                }
                call.target.iter().try_for_each(|target| self.expression(target))?;
                call.args.iter().try_for_each(|arg| self.expression(arg))
            }
            Expr::Comprehension(comprehension) => {
                self.expression(&comprehension.iter_range)?;
                let depth = self.scope.len();
                let own = [Some(&comprehension.iter_var), comprehension.iter_var2.as_ref()];
                self.scope.extend(own.into_iter().flatten().map(String::as_str));
                // The accumulator's name cannot be written in a source, but is in the loop's own parts.
                self.scope.push(&comprehension.accu_var);
                let loops = self.scope.iter().filter(|name| **name == comprehension.accu_var).count();
                if loops > MAX_CONDITION_LOOPS {
                    return Err(ConditionError::TooManyLoops);
                }
                let parts = [
                    &comprehension.accu_init,
                    &comprehension.loop_cond,
                    &comprehension.loop_step,
                    &comprehension.result,
                ];
                parts.into_iter().try_for_each(|part| self.expression(part))?;
                self.scope.truncate(depth);
                Ok(())
            }
        }
    }

    fn entry(&mut self, entry: &'a EntryExpr) -> Result<(), ConditionError> {
        match entry {
            EntryExpr::StructField(field) => self.expression(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key)?;
                self.expression(&entry.value)
            }
        }
    }

    fn identifier(&self, name: &'a str) -> Result<(), ConditionError> {
        if self.scope.contains(&name) || VARIABLES.contains(&name) {
            return Ok(());
        }
        match name == STATUS {
            true if self.in_step => Ok(()),
            true => Err(ConditionError::StatusOfJob),
            false => Err(ConditionError::UnknownVariable(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[track_caller]
    fn check(source: &str, expected: Result<bool, &str>) {
        let context = Context { branch: "main".into(), event: Event::Push, ..Context::default() };
        let (env, matrix) = (pairs(&[("DEPLOY", "yes")]), pairs(&[("PG", "15")]));
        let facts = Facts { context: &context, env: &env, matrix: &matrix, status: Some(Status::Success) };
        let result = Condition(source.to_owned()).holds(facts).map_err(|error| error.to_string());
        assert_eq!(result.as_ref().map_err(String::as_str).copied(), expected, "{source}");
    }

    #[test]
    fn answers() {
        check("branch == \"main\" && !pr", Ok(true));
        check("tag != ''", Ok(false));
        check("env.DEPLOY == 'yes' && matrix.PG == '16'", Ok(false));
        check("has(env.NOTHING) && env.NOTHING == 'x'", Ok(false));
        check("branch.startsWith('release/') || event in ['push', 'tag']", Ok(true));
        check("['main', 'next'].exists(b, b == branch)", Ok(true));
        check("branch.matches('^m.*n$') && size(branch) == 4", Ok(true));
        check("status == \"success\"", Ok(true));
        check("true", Ok(true));
    }

    #[test]
    fn refuses_what_has_no_answer() {
        check("brunch == 'main'", Err("unknown variable `brunch`"));
        check("branch.upper() == 'MAIN'", Err("unknown function `upper`"));
        check("branch", Err("the condition is a string, not true or false"));
        check(
            "env.NOTHING == 'x'",
            Err("the condition `env.NOTHING == 'x'` cannot be evaluated: No such key: NOTHING"),
        );
        check(
            &format!("'{}' == ''", "x".repeat(MAX_CONDITION_BYTES)),
            Err("the condition has more than 1024 bytes"),
        );
        check("[1].all(a, [1].all(b, a == b))", Ok(true));
        check("[1].all(a, [1].all(b, [1].all(c, a == b)))", Err("loops are nested more than 2 deep"));
        assert!(matches!(Condition::check_step("branch ="), Err(ConditionError::Syntax { .. })));
    }

    #[test]
    fn status_is_for_steps() {
        assert_eq!(Condition::check_job("status == 'failure'"), Err(ConditionError::StatusOfJob));
        assert_eq!(Condition::check_step("status == 'failure'"), Ok(()));
        assert!(Condition("status == 'failure'".into()).names_status());
        assert!(!Condition("env.status == 'failure'".into()).names_status());
    }

    #[test]
    fn deep_conditions_end() {
        for open in ["(", "!", "-", "[", "a.", "a?b:", "{1:", "a[", "[1].all(a,", "!(", "(-", "a&&("] {
            let source = open.repeat(MAX_CONDITION_BYTES / open.len());
            assert!(Condition::check_step(&source).is_err(), "{open}");
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_condition_is_answered_or_refused(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "branch", "env", "pr", "status", "matrix", ".", "(", ")", "[", "]", "\"", "'x'", "1", "&&", "||", "!",
                    "==", "in", "+", "-", "/", "0", "?", ":", ",", "{", "}", "has", "size", ".all(a,", "matches", "string",
                    " ", "9223372036854775807", "%", "*", "é", "\\", "r'", "b'", "1.5", "u", "null", "int", "'('",
                ]),
                0..20,
            )
        ) {
            let source = words.concat();
            let _: Result<(), ConditionError> = Condition::check_step(&source);
            let (context, env) = (Context::default(), pairs(&[("A", "1")]));
            let facts = Facts { context: &context, env: &env, matrix: &env, status: Some(Status::Failure) };
            if let Err(error) = Condition(source).holds(facts) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}
