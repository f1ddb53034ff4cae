use globset::{GlobBuilder, GlobMatcher};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::forms;
use crate::{Context, Event, schema};

/// What starts a pipeline. In the file also one event's name, or a list of names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "OnForm")]
pub struct On {
    /// Pushes to branches, and of tags where `tags` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<PushFilter>,
    /// Pull requests opened or changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<PullRequestFilter>,
    /// Pushes of tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<TagFilter>,
    /// A start by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual: Option<Manual>,
    /// Times, each as five cron fields in UTC: `30 4 * * 1-5`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<String>,
}

/// Which pushes start the pipeline. All that are given must match; `!` before a pattern excludes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushFilter {
    /// Patterns of branch names; all branches where absent, unless `tags` alone is given.
    #[serde(default, deserialize_with = "forms::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::globs")]
    pub branches: Vec<String>,
    /// Patterns of tag names; no tags where absent.
    #[serde(default, deserialize_with = "forms::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::globs")]
    pub tags: Vec<String>,
    /// Patterns of which the push must have changed a file; not asked of tags.
    #[serde(default, deserialize_with = "forms::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::path_globs")]
    pub paths: Vec<String>,
}

/// Which pull requests start the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PullRequestFilter {
    /// Patterns of the branch that the pull request would change; all where absent.
    #[serde(default, deserialize_with = "forms::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::globs")]
    pub branches: Vec<String>,
    /// Patterns of which the pull request must change a file.
    #[serde(default, deserialize_with = "forms::list", skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::path_globs")]
    pub paths: Vec<String>,
}

/// Which tags start the pipeline: patterns of their names; all where there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TagFilter {
    /// Patterns of tag names.
    #[serde(deserialize_with = "forms::list")]
    pub patterns: Vec<String>,
}

/// A start by hand; it has no settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manual {}

impl Default for On {
    fn default() -> Self {
        Self {
            push: Some(PushFilter::default()),
            pull_request: None,
            tag: None,
            manual: Some(Manual {}),
            schedule: Vec::new(),
        }
    }
}

impl On {
    /// Whether a run with this context, in which these files changed, is wanted.
    ///
    /// Changed files are `None` where they are not known (a new branch, say): then path filters pass.
    pub fn matches(&self, context: &Context, changed: Option<&[String]>) -> bool {
        match context.event {
            Event::Push => self.push.as_ref().is_some_and(|push| {
                let branches_apply = push.tags.is_empty() || !push.branches.is_empty();
                branches_apply
                    && matches(&push.branches, &context.branch)
                    && any_matches(&push.paths, changed)
            }),
            Event::Tag => {
                self.tag.as_ref().is_some_and(|tag| matches(&tag.patterns, &context.tag))
                    || (self.push.as_ref())
                        .is_some_and(|push| !push.tags.is_empty() && matches(&push.tags, &context.tag))
            }
            Event::PullRequest => self.pull_request.as_ref().is_some_and(|filter| {
                matches(&filter.branches, &context.target_branch) && any_matches(&filter.paths, changed)
            }),
            Event::Manual => self.manual.is_some(),
            Event::Schedule => !self.schedule.is_empty(),
        }
    }
}

/// Whether the patterns, the later ones deciding, admit the text; no patterns admit all.
fn matches(patterns: &[String], text: &str) -> bool {
    // A list of exclusions alone means "all but these".
    let mut admitted = patterns.iter().all(|pattern| pattern.starts_with('!'));
    for pattern in patterns {
        let (admits, pattern) = pattern.strip_prefix('!').map_or((true, pattern.as_str()), |p| (false, p));
        if glob(pattern).is_ok_and(|glob| glob.is_match(text)) {
            admitted = admits;
        }
    }
    admitted
}

fn any_matches(patterns: &[String], changed: Option<&[String]>) -> bool {
    patterns.is_empty() || changed.is_none_or(|files| files.iter().any(|file| matches(patterns, file)))
}

/// A pattern of branches, tags or paths: `*` stays within a directory, `**` crosses, as in `.gitignore`.
pub(crate) fn glob(pattern: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(pattern).literal_separator(true).build()?.compile_matcher())
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum EventName {
    /// Pushes to branches.
    Push,
    /// Pull requests opened or changed.
    PullRequest,
    /// Pushes of tags.
    Tag,
    /// A start by hand.
    Manual,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OnForm {
    One(EventName),
    Many(#[schemars(length(min = 1))] Vec<EventName>),
    Full(FullOn),
}

/// Events and which of them count.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FullOn {
    /// Pushes to branches, and of tags where `tags` is given.
    #[serde(default, deserialize_with = "present")]
    push: Option<PushFilter>,
    /// Pull requests opened or changed.
    #[serde(default, deserialize_with = "present")]
    pull_request: Option<PullRequestFilter>,
    /// Pushes of tags: all of them, or those that a pattern matches.
    #[serde(default, deserialize_with = "present")]
    #[schemars(schema_with = "schema::optional_globs")]
    tag: Option<TagFilter>,
    /// A start by hand.
    #[serde(default, deserialize_with = "present")]
    manual: Option<Manual>,
    /// Times, each as five cron fields in UTC: `30 4 * * 1-5`.
    #[serde(default, deserialize_with = "forms::list")]
    #[schemars(schema_with = "schema::crons")]
    schedule: Vec<String>,
}

/// A key that is there counts even when nothing follows it: `pull_request:`.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

impl JsonSchema for On {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "On".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        OnForm::json_schema(generator)
    }
}

impl From<OnForm> for On {
    fn from(form: OnForm) -> Self {
        let events = match form {
            OnForm::Full(FullOn { push, pull_request, tag, manual, schedule }) => {
                return Self { push, pull_request, tag, manual, schedule };
            }
            OnForm::One(event) => vec![event],
            OnForm::Many(events) => events,
        };
        let mut on = Self { push: None, pull_request: None, tag: None, manual: None, schedule: Vec::new() };
        for event in events {
            match event {
                EventName::Push => on.push = Some(PushFilter::default()),
                EventName::PullRequest => on.pull_request = Some(PullRequestFilter::default()),
                EventName::Tag => on.tag = Some(TagFilter::default()),
                EventName::Manual => on.manual = Some(Manual {}),
            }
        }
        on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pipeline;

    #[track_caller]
    fn check(on: &str, context: &Context, changed: Option<&[&str]>, expected: bool) {
        let text = format!("{on}\nimage: busybox\njobs: {{ a: {{ steps: [{{ run: ls }}] }} }}");
        let pipeline =
            Pipeline::parse("p.yaml", &text).unwrap_or_else(|e| panic!("{}", crate::render(&e, false)));
        let changed: Option<Vec<String>> =
            changed.map(|files| files.iter().map(|&file| file.to_owned()).collect());
        assert_eq!(pipeline.on.matches(context, changed.as_deref()), expected, "{on}");
    }

    fn push(branch: &str) -> Context {
        Context { event: Event::Push, branch: branch.into(), ..Context::default() }
    }

    fn tag(tag: &str) -> Context {
        Context { event: Event::Tag, tag: tag.into(), ..Context::default() }
    }

    fn event(event: Event) -> Context {
        Context { event, ..Context::default() }
    }

    #[test]
    fn without_on_pushes_and_hands_start_it() {
        check("", &push("any"), None, true);
        check("", &event(Event::Manual), None, true);
        check("", &tag("v1"), None, false);
        check("", &event(Event::PullRequest), None, false);
    }

    #[test]
    fn all_three_forms_name_events() {
        check("on: push", &push("any"), None, true);
        check("on: push", &event(Event::Manual), None, false);
        check("on: [tag, manual]", &tag("v1"), None, true);
        check("on: { pull_request: }", &event(Event::PullRequest), None, true);
        check("on: { schedule: \"0 4 * * *\" }", &event(Event::Schedule), None, true);
        check("on: { manual: {} }", &event(Event::Schedule), None, false);
    }

    #[test]
    fn branches_are_patterns() {
        let on = "on: { push: { branches: [main, \"release/*\", \"!release/old\"] } }";
        for (branch, expected) in [
            ("main", true),
            ("next", false),
            ("release/1", true),
            ("release/old", false),
            ("release/1/x", false),
        ] {
            check(on, &push(branch), None, expected);
        }
        check("on: { push: { branches: \"!main\" } }", &push("next"), None, true);
        check("on: { push: { branches: \"!main\" } }", &push("main"), None, false);
    }

    #[test]
    fn tags_of_a_push_are_not_branches() {
        check("on: { push: { tags: \"v*\" } }", &tag("v1.2"), None, true);
        check("on: { push: { tags: \"v*\" } }", &tag("x"), None, false);
        check("on: { push: { tags: \"v*\" } }", &push("main"), None, false);
        check("on: { push: { tags: \"v*\", branches: main } }", &push("main"), None, true);
        check("on: { push: { branches: main } }", &tag("main"), None, false);
        check("on: { tag: [\"v*\"] }", &tag("v2"), None, true);
        check("on: { tag: [\"v*\"] }", &tag("w2"), None, false);
    }

    #[test]
    fn a_changed_file_must_match() {
        let on = "on: { push: { paths: [\"src/**\", \"!src/**/*.md\"] } }";
        check(on, &push("main"), Some(&["README", "src/a/b.rs"]), true);
        check(on, &push("main"), Some(&["README", "src/a/b.md"]), false);
        check(on, &push("main"), Some(&[]), false);
        check(on, &push("main"), None, true);
    }

    #[test]
    fn a_pull_request_is_filtered_by_its_target() {
        let on = "on: { pull_request: { branches: main } }";
        let to = |target: &str| Context {
            event: Event::PullRequest,
            branch: "main".into(),
            target_branch: target.into(),
            ..Context::default()
        };
        check(on, &to("main"), None, true);
        check(on, &to("next"), None, false);
    }
}
