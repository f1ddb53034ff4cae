//! Variables: where they come from, and where `$NAME` is replaced by their value.
//!
//! A job's variables are, the later ones winning: the standard ones (see [`Context::variables`]), the pipeline's
//! `env`, the job's `env`, the matrix's values, the secrets, and for one step its own `env`. A value may name
//! variables of the levels that are complete when it is read: the pipeline's `env` the standard ones; the job's
//! those, the pipeline's and the matrix's; a step's or service's all of the job's.
//!
//! `$NAME` and `${NAME}` are replaced in image references, build arguments, `env` values, cache keys and the
//! concurrency group; `$$` is a dollar sign, and so is a `$` that no name follows. Scripts are the shell's: there
//! nothing is replaced. A variable that does not exist is an error, never an empty string.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Env;

/// The longest value of a variable, in bytes: what Linux takes (`MAX_ARG_STRLEN`), less room for the name.
pub const MAX_VALUE_BYTES: usize = 127 * 1024;
/// Where a job's container has its copy of the checkout.
pub const WORKSPACE: &str = "/workspace";

/// What started a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A push to a branch.
    Push,
    /// A pull request was opened or changed.
    PullRequest,
    /// A push of a tag.
    Tag,
    /// A start by hand.
    #[default]
    Manual,
    /// A time that `schedule` names.
    Schedule,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Push => "push",
            Self::PullRequest => "pull_request",
            Self::Tag => "tag",
            Self::Manual => "manual",
            Self::Schedule => "schedule",
        })
    }
}

/// What a run is about. What does not apply is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// What started the run.
    pub event: Event,
    /// The commit's full hash.
    pub commit: String,
    /// The branch pushed to; of a pull request, the branch it comes from.
    pub branch: String,
    /// The branch that a pull request would change.
    pub target_branch: String,
    /// The tag pushed.
    pub tag: String,
    /// The pull request's number.
    pub pr: Option<u64>,
    /// The repository's name: `owner/name` on a forge, the directory's name on a developer's machine.
    pub repo: String,
    /// The run's id, unique on the server.
    pub run: String,
    /// The processor architecture as image registries name it: `amd64`, `arm64`.
    pub arch: String,
}

/// The names of the standard variables, all of them set in every job, if to nothing.
pub const STANDARD_VARIABLES: [&str; 14] = [
    "CI",
    "CI_ARCH",
    "CI_BRANCH",
    "CI_COMMIT",
    "CI_EVENT",
    "CI_JOB",
    "CI_PIPELINE",
    "CI_PR",
    "CI_REPO",
    "CI_RUN",
    "CI_TAG",
    "CI_TARGET_BRANCH",
    "CI_WORKSPACE",
    "CI_JOB_NAME",
];

impl Context {
    /// The standard variables of a run of the named pipeline, but for those that name the job.
    pub(crate) fn variables(&self, pipeline: &str) -> Env {
        [
            ("CI", "true"),
            ("CI_ARCH", &self.arch),
            ("CI_BRANCH", &self.branch),
            ("CI_COMMIT", &self.commit),
            ("CI_EVENT", &self.event.to_string()),
            ("CI_PIPELINE", pipeline),
            ("CI_PR", &self.pr.map(|pr| pr.to_string()).unwrap_or_default()),
            ("CI_REPO", &self.repo),
            ("CI_RUN", &self.run),
            ("CI_TAG", &self.tag),
            ("CI_TARGET_BRANCH", &self.target_branch),
            ("CI_WORKSPACE", WORKSPACE),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }
}

/// A text with `$NAME` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
    /// The contents of the files that a pattern matches.
    Hash(String),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `${` without `}`.
    #[error("`${{` is never closed")]
    Unclosed,
    /// Something else than a name between the braces.
    #[error("`${{{0}}}` is not a variable")]
    Name(String),
    /// `${hash:…}` without a valid pattern.
    #[error("`{0}` is not a pattern of files")]
    Pattern(String),
}

/// A variable that nothing defines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("undefined variable `{0}`")]
pub struct UndefinedVariable(pub String);

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            literal.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            let part = if let Some(after) = rest.strip_prefix('$') {
                rest = after;
                None
            } else if let Some(after) = rest.strip_prefix('{') {
                let (inner, after) = after.split_once('}').ok_or(TemplateError::Unclosed)?;
                rest = after;
                Some(braced(inner)?)
            } else {
                let name = &rest[..name_len(rest)];
                rest = &rest[name.len()..];
                (!name.is_empty()).then(|| Part::Variable(name.to_owned()))
            };
            match part {
                None => literal.push('$'),
                Some(part) => {
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(part);
                }
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// The names of the variables.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Text(_) | Part::Hash(_) => None,
        })
    }

    /// The patterns of `${hash:…}`.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hash(pattern) => Some(pattern.as_str()),
            Part::Text(_) | Part::Variable(_) => None,
        })
    }

    /// The text, if it has neither variables nor hashes.
    pub(crate) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Replaces the variables.
    pub(crate) fn substitute(&self, env: &Env) -> Result<CacheKey, SubstituteError> {
        let mut parts: Vec<KeyPart> = Vec::new();
        let mut length: usize = 0;
        for part in &self.parts {
            let text = match part {
                Part::Text(text) => text,
                Part::Variable(name) => env.get(name).ok_or_else(|| UndefinedVariable(name.clone()))?,
                Part::Hash(pattern) => {
                    parts.push(KeyPart::Hash(pattern.clone()));
                    continue;
                }
            };
            length += text.len();
            if length > MAX_VALUE_BYTES {
                return Err(SubstituteError::TooLong);
            }
            match parts.last_mut() {
                Some(KeyPart::Text(last)) => last.push_str(text),
                _ => parts.push(KeyPart::Text(text.clone())),
            }
        }
        Ok(CacheKey { parts })
    }
}

/// A cache's key, its variables replaced. What remains are the hashes of files, which only the worker can see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey {
    parts: Vec<KeyPart>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeyPart {
    Text(String),
    Hash(String),
}

impl CacheKey {
    /// Puts the hashes in, as the function gives them for a pattern of files in the workspace.
    ///
    /// The function decides what a pattern without a match is; an empty string leaves the key well-defined.
    pub fn resolve<E>(&self, mut hash: impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
        let mut key = String::new();
        for part in &self.parts {
            match part {
                KeyPart::Text(text) => key.push_str(text),
                KeyPart::Hash(pattern) => key.push_str(&hash(pattern)?),
            }
        }
        Ok(key)
    }

    /// The text, where hashes have no meaning and the check has refused them.
    pub(crate) fn into_text(self) -> String {
        let parts = self.parts.into_iter();
        parts
            .map(|part| match part {
                KeyPart::Text(text) | KeyPart::Hash(text) => text,
            })
            .collect()
    }
}

fn braced(inner: &str) -> Result<Part, TemplateError> {
    if let Some(pattern) = inner.strip_prefix("hash:") {
        let valid = !pattern.is_empty() && crate::model::glob(pattern).is_ok();
        return if valid {
            Ok(Part::Hash(pattern.to_owned()))
        } else {
            Err(TemplateError::Pattern(pattern.to_owned()))
        };
    }
    if is_env_name(inner) {
        Ok(Part::Variable(inner.to_owned()))
    } else {
        Err(TemplateError::Name(inner.to_owned()))
    }
}

/// The length of the variable's name that the text starts with.
fn name_len(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.bytes().take_while(|&b| b.is_ascii_alphanumeric() || b == b'_').count()
}

/// Whether the shell can use the name (POSIX.1-2017, 3.235 "Name").
pub(crate) fn is_env_name(name: &str) -> bool {
    !name.is_empty() && name_len(name) == name.len()
}

/// Replaces the variables of a text.
pub(crate) fn substitute(text: &str, env: &Env) -> Result<String, SubstituteError> {
    Ok(Template::parse(text)?.substitute(env)?.into_text())
}

/// Replaces the variables of all values.
pub(crate) fn substitute_all(values: &Env, env: &Env) -> Result<Env, SubstituteError> {
    values
        .iter()
        .map(|(name, value)| Ok((name.clone(), substitute(value, env)?)))
        .collect::<Result<BTreeMap<_, _>, _>>()
}

/// Why a text's variables could not be replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// The text is no template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// It names a variable that does not exist.
    #[error(transparent)]
    Undefined(#[from] UndefinedVariable),
    /// It becomes longer than a variable may be.
    #[error("with its variables replaced it has more than {MAX_VALUE_BYTES} bytes")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> Env {
        [("A", "1"), ("LONG_name", "$A")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let result = substitute(text, &env()).map_err(|error| error.to_string());
        assert_eq!(result.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn replaces_variables() {
        check("", Ok(""));
        check("postgres:$A-${A}x$A", Ok("postgres:1-1x1"));
        check("$LONG_name", Ok("$A"));
        check("é$A é", Ok("é1 é"));
    }

    #[test]
    fn keeps_dollars_that_name_nothing() {
        check("$$A $5 $ $-", Ok("$A $5 $ $-"));
        check("$", Ok("$"));
    }

    #[test]
    fn refuses_what_it_cannot_replace() {
        check("$B", Err("undefined variable `B`"));
        check("$AA", Err("undefined variable `AA`"));
        check("${A", Err("`${` is never closed"));
        check("${A:-x}", Err("`${A:-x}` is not a variable"));
        check("${}", Err("`${}` is not a variable"));
        check("${hash:[}", Err("`[` is not a pattern of files"));
    }

    #[test]
    fn stops_before_a_value_is_too_long() {
        let env = Env::from([("A".to_owned(), "x".repeat(MAX_VALUE_BYTES / 2))]);
        assert_eq!(substitute("$A$A", &env).map(|value| value.len()), Ok(MAX_VALUE_BYTES));
        assert_eq!(substitute("$A$A.", &env), Err(SubstituteError::TooLong));
        assert_eq!(substitute(&"$A".repeat(1_000_000), &env), Err(SubstituteError::TooLong));
    }

    #[test]
    fn a_cache_key_asks_for_its_hashes() {
        let key = Template::parse("cargo-$A-${hash:**/Cargo.lock}").unwrap().substitute(&env()).unwrap();
        let resolved = key.resolve(|pattern| Ok::<_, ()>(format!("<{pattern}>")));
        assert_eq!(resolved, Ok("cargo-1-<**/Cargo.lock>".to_owned()));
        assert_eq!(key.resolve(|_| Err("unreadable")), Err("unreadable"));
    }

    #[test]
    fn standard_variables_are_all_set() {
        let mut names: Vec<_> = Context::default().variables("p").into_keys().collect();
        names.extend(["CI_JOB".to_owned(), "CI_JOB_NAME".to_owned()]);
        names.sort();
        let mut expected = STANDARD_VARIABLES.map(str::to_owned).to_vec();
        expected.sort();
        assert_eq!(names, expected);
    }
}
