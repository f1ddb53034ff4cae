use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Map, Value};

/// The environment of `--env-file` and `-e`. A name without a value has the one that this process has, if any.
pub(crate) fn environment(files: &[PathBuf], given: &[String]) -> anyhow::Result<Vec<String>> {
    let own = |name: &str| std::env::var(name).ok().map(|value| format!("{name}={value}"));
    let mut all = read(files, "--env-file", &own)?;
    for entry in given {
        match entry.contains('=') {
            true => all.push(entry.clone()),
            false => all.extend(own(entry)),
        }
    }
    Ok(all)
}

/// The labels of `--label-file` and `-l`.
pub(crate) fn labels(files: &[PathBuf], given: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut all = read(files, "--label-file", &|name| Some(name.to_owned()))?;
    all.extend(given.iter().cloned());
    Ok(pairs(&all))
}

/// `name=value` texts as an object; a name alone has an empty value.
pub(crate) fn pairs(texts: &[String]) -> Map<String, Value> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.into())
    };
    texts.iter().map(pair).collect()
}

fn read(
    files: &[PathBuf],
    option: &str,
    bare: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read(path).with_context(|| format!("{option}: open {}", path.display()))?;
        let text = String::from_utf8(text)
            .ok()
            .with_context(|| format!("{option}: env file {} contains invalid utf8 bytes", path.display()))?;
        lines(path, &text, bare, &mut all).with_context(|| option.to_owned())?;
    }
    Ok(all)
}

fn lines(
    path: &Path,
    text: &str,
    bare: &dyn Fn(&str) -> Option<String>,
    all: &mut Vec<String>,
) -> anyhow::Result<()> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.is_empty() {
            bail!("poorly formatted environment: {}: no variable name on line '{line}'", path.display());
        }
        if name.contains([' ', '\t']) {
            bail!("poorly formatted environment: {}: variable '{name}' contains whitespaces", path.display());
        }
        if line.contains('=') {
            all.push(line.to_owned());
        } else {
            all.extend(bare(line));
        }
    }
    Ok(())
}
