//! What a string must be, by the name of its format in the schema.

use croner::parser::{CronParser, Seconds, Year};

use crate::model::{self, Duration, ParseDurationError, ParseSizeError, Size};
use crate::variables::{Template, TemplateError, is_env_name};
use crate::{Condition, ConditionError};

/// The longest cache key, in bytes, before its variables are replaced: GitHub's limit, below every file system's.
const MAX_CACHE_KEY_BYTES: usize = 512;
/// The longest name of a job or service: a DNS label (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 63;

/// The longest pattern of files or names, in bytes. Compiling one takes time and memory many times its length.
const MAX_PATTERN_BYTES: usize = 512;

/// What is wrong with a string, and where in it.
pub(super) struct Problem {
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// The wrong part, if it is not the whole.
    pub(super) part: Option<String>,
}

impl Problem {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: Some(help.into()), part: None }
    }
}

/// Checks a string against a format of the schema; formats of others (JSON Schema's own) hold anything.
pub(super) fn check(format: &str, text: &str) -> Result<(), Problem> {
    match format {
        "ci-nonempty" => nonempty(text),
        "ci-duration" => text.parse::<Duration>().map(drop).map_err(|error| duration(&error)),
        "ci-size" => text.parse::<Size>().map(drop).map_err(|error| size(&error)),
        "ci-template" => template(text).map(drop),
        "ci-image" => image(text),
        "ci-workspace-path" => inside_workspace(text),
        "ci-cache-key" => cache_key(text),
        "ci-job-condition" => Condition::check_job(text).map_err(|error| condition(&error)),
        "ci-step-condition" => Condition::check_step(text).map_err(|error| condition(&error)),
        "ci-glob" => glob(text),
        "ci-path-glob" => glob(text).and_then(|()| inside_workspace(text.strip_prefix('!').unwrap_or(text))),
        "ci-cron" => cron(text),
        "ci-env-name" => env_name(text),
        "ci-job-name" => job_name(text),
        "ci-service-name" => service_name(text),
        _ => Ok(()),
    }
}

fn nonempty(text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        Err(Problem::new("nothing but white space", "give it a value"))
    } else {
        Ok(())
    }
}

fn duration(error: &ParseDurationError) -> Problem {
    let help = match error {
        ParseDurationError::NoUnit(number) => {
            format!("write `{number}s` for seconds or `{number}m` for minutes")
        }
        ParseDurationError::Format(_) => {
            "a duration is whole numbers with the units d, h, m and s, the larger first: `1h30m`".to_owned()
        }
        ParseDurationError::Range(_) => "a timeout may be at most a week".to_owned(),
    };
    Problem::new(error.to_string(), help)
}

fn size(error: &ParseSizeError) -> Problem {
    let help = match error {
        ParseSizeError::NoUnit(number) => format!("write `{number}MiB` or `{number}GiB`"),
        ParseSizeError::Format(_) => "a size is a whole number with a unit: `512MiB`, `2g`".to_owned(),
    };
    Problem::new(error.to_string(), help)
}

fn template(text: &str) -> Result<Template, Problem> {
    let template = any_template(text)?;
    if template.hashes().next().is_none() {
        return Ok(template);
    }
    Err(Problem {
        part: Some("${hash:".to_owned()),
        ..Problem::new(
            "`${hash:…}` is only known in cache keys",
            "remove it, or write `$$` for a dollar sign",
        )
    })
}

fn any_template(text: &str) -> Result<Template, Problem> {
    Template::parse(text).map_err(|error| {
        let part = match &error {
            TemplateError::Unclosed => "${".to_owned(),
            TemplateError::Name(name) => format!("${{{name}}}"),
            TemplateError::Pattern(pattern) => format!("${{hash:{pattern}}}"),
        };
        let help = match &error {
            TemplateError::Name(_) => {
                "only `$NAME` and `${NAME}` are replaced here; the shell's other forms work in `run`. \
                 Write `$$` for a dollar sign"
            }
            _ => "write `$$` for a dollar sign",
        };
        Problem { part: Some(part), ..Problem::new(error.to_string(), help) }
    })
}

fn image(text: &str) -> Result<(), Problem> {
    let template = template(text)?;
    // With variables the reference is known when the job is; only the plain part can be judged now.
    match template.literal() {
        Some(literal) if !is_image_reference(literal) => Err(Problem::new(
            format!("`{literal}` is not an image reference"),
            "write it as Docker does: `debian:bookworm-slim`, `ghcr.io/owner/name:1.2`; to build the \
             repository's Dockerfile: `image: { build: . }`",
        )),
        _ => Ok(()),
    }
}

/// Whether the text looks like an image reference; the engine, which pulls it, has the full grammar.
pub(crate) fn is_image_reference(text: &str) -> bool {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let (host, rest) = path.split_once('/').map_or(("", path), |(first, rest)| {
        let is_host = first.contains(['.', ':']) || first == "localhost";
        if is_host { (first, rest) } else { ("", path) }
    });
    let component = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| word(c) && !c.is_ascii_uppercase())
    };
    host.chars().all(|c| word(c) || matches!(c, ':' | '[' | ']'))
        && rest.split('/').all(component)
        && tag.is_none_or(|tag| !tag.is_empty() && tag.len() <= 128 && tag.chars().all(word))
        && digest.is_none_or(|digest| {
            digest.strip_prefix("sha256:").is_some_and(|hex| {
                hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            })
        })
}

fn inside_workspace(text: &str) -> Result<(), Problem> {
    nonempty(text)?;
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(Problem::new(
            format!("`{text}` is outside the workspace"),
            "write a path from the repository's root, without `..`",
        ));
    }
    Ok(())
}

fn cache_key(text: &str) -> Result<(), Problem> {
    nonempty(text)?;
    if text.len() > MAX_CACHE_KEY_BYTES {
        return Err(Problem::new(
            format!("the cache key has {} bytes", text.len()),
            format!("a key has at most {MAX_CACHE_KEY_BYTES}"),
        ));
    }
    let template = any_template(text)?;
    let patterns: Vec<&str> = template.hashes().collect();
    patterns.into_iter().try_for_each(inside_workspace)
}

fn condition(error: &ConditionError) -> Problem {
    let part = match error {
        ConditionError::UnknownVariable(name) | ConditionError::UnknownFunction(name) => Some(name.clone()),
        ConditionError::StatusOfJob => Some("status".to_owned()),
        _ => None,
    };
    let help = match error {
        ConditionError::Syntax { line, column, .. } => Some(format!(
            "the parser stopped at line {line}, column {column} of the expression; an example is \
             `branch == \"main\" && !pr`"
        )),
        other => other.help(),
    };
    Problem { message: error.to_string(), help, part }
}

fn glob(text: &str) -> Result<(), Problem> {
    nonempty(text)?;
    if text.len() > MAX_PATTERN_BYTES {
        let message = format!("the pattern has {} bytes", text.len());
        return Err(Problem::new(message, format!("a pattern has at most {MAX_PATTERN_BYTES}")));
    }
    model::glob(text.strip_prefix('!').unwrap_or(text)).map(drop).map_err(|error| {
        Problem::new(
            format!("`{text}` is not a pattern: {}", error.kind()),
            "`*` stands for anything but a slash, `**` for any directories, `{a,b}` for either, `[ab]` for a letter",
        )
    })
}

fn cron(text: &str) -> Result<(), Problem> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map(drop).map_err(|error| {
        Problem::new(
            format!("`{text}` is not a cron expression: {}", innermost(&error.to_string())),
            "it has five fields: minute, hour, day of the month, month, day of the week: `30 4 * * 1-5`",
        )
    })
}

/// croner says "Component error: Number out of bounds."; the last part is what helps.
fn innermost(message: &str) -> String {
    let text = message.trim_end_matches('.').rsplit(": ").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn env_name(text: &str) -> Result<(), Problem> {
    if is_env_name(text) {
        return Ok(());
    }
    Err(Problem::new(
        format!("`{text}` cannot be a variable's name"),
        "a name has letters, digits and underscores, and starts with no digit",
    ))
}

fn job_name(text: &str) -> Result<(), Problem> {
    let ok = (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if ok {
        return Ok(());
    }
    Err(Problem::new(
        format!("`{text}` cannot be a job's name"),
        format!(
            "a name has letters, digits, `-` and `_`, at most {MAX_NAME_BYTES}, and starts with a letter or digit"
        ),
    ))
}

fn service_name(text: &str) -> Result<(), Problem> {
    let ok = (1..=MAX_NAME_BYTES).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if ok {
        return Ok(());
    }
    Err(Problem::new(
        format!("`{text}` cannot be a service's name"),
        format!(
            "it is the service's host name: small letters, digits and `-` within, at most {MAX_NAME_BYTES}"
        ),
    ))
}
