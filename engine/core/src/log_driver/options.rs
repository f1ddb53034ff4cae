use std::collections::BTreeMap;

use regex::Regex;

use super::{LogDriverError, Subject};

/// How much of a log is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of a file.
    pub(super) max_size: Option<u64>,
    pub(super) max_files: u32,
}

impl Bounds {
    /// Of `json-file`.
    pub(super) const NONE: Self = Self { max_size: None, max_files: 1 };
    /// Of `local`, and of what is kept for reading where output goes elsewhere; Docker's.
    pub(super) const LOCAL: Self = Self { max_size: Some(20 << 20), max_files: 5 };

    pub(super) fn parse(options: &BTreeMap<String, String>, defaults: Self) -> Result<Self, LogDriverError> {
        let max_size = match options.get("max-size") {
            Some(text) if text == "-1" => None,
            Some(text) => Some(size("max-size", text)?),
            None => defaults.max_size,
        };
        let max_files = match options.get("max-file") {
            Some(text) => {
                let invalid = |reason| LogDriverError::value("max-file", text, reason);
                let count: u32 = text.parse().map_err(|_| invalid("expected a number"))?;
                if count < 1 {
                    return Err(invalid("max-file cannot be less than 1"));
                }
                count
            }
            None => defaults.max_files,
        };
        match options.get("compress").map(String::as_str) {
            None | Some("false" | "0") => {}
            Some("true" | "1") if defaults.max_size.is_some() => {} // a matter of the driver's own format
            Some(value) => {
                let reason = "full files are not compressed by this engine: leave it out";
                return Err(LogDriverError::value("compress", value, reason));
            }
        }
        Ok(Self { max_size, max_files })
    }
}

/// Bytes: a number with b, k, m, g or t for powers of 1024.
pub(super) fn size(option: &str, text: &str) -> Result<u64, LogDriverError> {
    let lower = text.trim().to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, shift) = match lower.chars().last() {
        Some('k') => (&lower[..lower.len() - 1], 10),
        Some('m') => (&lower[..lower.len() - 1], 20),
        Some('g') => (&lower[..lower.len() - 1], 30),
        Some('t') => (&lower[..lower.len() - 1], 40),
        _ => (lower, 0),
    };
    let number: Option<u64> = number.trim().parse().ok().filter(|&number| number > 0);
    number
        .and_then(|number| number.checked_shl(shift))
        .ok_or_else(|| LogDriverError::value(option, text, "expected a size such as 10m"))
}

/// Labels and environment variables that stand in every entry.
pub(super) fn attributes(
    options: &BTreeMap<String, String>,
    subject: Subject<'_>,
) -> Result<BTreeMap<String, String>, LogDriverError> {
    let env: BTreeMap<String, String> = subject
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut attributes = BTreeMap::new();
    for (kind, source) in [("labels", subject.labels), ("env", &env)] {
        let names: Vec<&str> = options.get(kind).map(|text| text.split(',').collect()).unwrap_or_default();
        let option = format!("{kind}-regex");
        let pattern = options
            .get(&option)
            .map(|text| Regex::new(text).map_err(|error| LogDriverError::value(&option, text, error)));
        let pattern = pattern.transpose()?;
        let wanted = |name: &str| names.contains(&name) || pattern.as_ref().is_some_and(|p| p.is_match(name));
        let chosen = source.iter().filter(|(name, _)| wanted(name));
        attributes.extend(chosen.map(|(name, value)| (name.clone(), value.clone())));
    }
    Ok(attributes)
}

/// Fills the fields of a container into a tag.
pub(super) fn tag(template: &str, subject: Subject<'_>) -> Result<String, LogDriverError> {
    let (mut out, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let unknown = |field: &str| {
            let fields = "ID, FullID, Name, ImageID, ImageFullID, ImageName, DaemonName";
            LogDriverError::value("tag", template, format!("{{{{{field}}}}} is none of the fields {fields}"))
        };
        let (field, after) = after.split_once("}}").ok_or_else(|| unknown(after))?;
        out += &match field.trim() {
            ".ID" => subject.id.short(),
            ".FullID" => subject.id.to_string(),
            ".Name" => subject.name.to_owned(),
            ".ImageID" => subject.image.0.short(),
            ".ImageFullID" => subject.image.to_string(),
            ".ImageName" => subject.image_name.to_owned(),
            ".DaemonName" => "lighter".to_owned(),
            _ => return Err(unknown(field)),
        };
        rest = after;
    }
    Ok(out + rest)
}

/// What Docker's journald driver adds to an entry. Names of the journal have capital letters, digits and underscores
/// only, and begin with a letter.
pub(super) fn journal_fields(
    attributes: &BTreeMap<String, String>,
    tag: String,
    subject: Subject<'_>,
) -> Vec<(String, String)> {
    let own = [
        ("CONTAINER_ID", subject.id.short()),
        ("CONTAINER_ID_FULL", subject.id.to_string()),
        ("CONTAINER_NAME", subject.name.to_owned()),
        ("CONTAINER_TAG", tag.clone()),
        ("IMAGE_NAME", subject.image_name.to_owned()),
        ("SYSLOG_IDENTIFIER", tag),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let name = |name: &str| {
        let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        name.chars().map(clean).collect::<String>().trim_start_matches('_').to_owned()
    };
    let added = attributes.iter().map(|(key, value)| (name(key), value.clone()));
    own.into_iter().chain(added.filter(|(name, _)| !name.is_empty())).collect()
}
