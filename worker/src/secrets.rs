//! Secrets from the environment or a file, given only to the jobs that name them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use pipelines::Job;

/// All secrets there are. Their values are in no log: [`fmt::Debug`] shows names alone.
#[derive(Clone, Default)]
pub struct Secrets {
    file: BTreeMap<String, String>,
    from: Option<PathBuf>,
}

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file cannot be read.
    #[error("secrets file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of the file is no `NAME=value`.
    #[error("secrets file {path}:{line}: expected NAME=value")]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
    },
    /// Other users may read the file.
    #[error("secrets file {0} can be read by other users: chmod 600 it")]
    Exposed(PathBuf),
    /// A job asks for one that is nowhere.
    #[error(
        "secret {name} is not set: set the environment variable {name}, or give a file with it (--secrets)"
    )]
    Missing {
        /// Its name.
        name: String,
    },
}

impl Secrets {
    /// Reads a file of `NAME=value` lines; without one, the environment is all there is.
    ///
    /// Empty lines and those that begin with `#` are passed over. A value in double quotes may go over several lines;
    /// `\n`, `\"` and `\\` mean what they look like in there. A value in single quotes is taken as it stands.
    pub fn load(path: Option<&Path>) -> Result<Self, SecretsError> {
        use std::os::unix::fs::PermissionsExt;
        let Some(path) = path else { return Ok(Self::default()) };
        let failed = |source| SecretsError::Io { path: path.to_owned(), source };
        let mode = std::fs::metadata(path).map_err(failed)?.permissions().mode();
        if mode & 0o004 != 0 {
            return Err(SecretsError::Exposed(path.to_owned()));
        }
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let file = parse(&text).map_err(|line| SecretsError::Line { path: path.to_owned(), line })?;
        Ok(Self { file, from: Some(path.to_owned()) })
    }

    /// The names and values that a job asks for: the file's before the environment's.
    pub fn of(&self, job: &Job) -> Result<Vec<(String, String)>, SecretsError> {
        let find = |name: &String| {
            let value = self.file.get(name).cloned().or_else(|| std::env::var(name).ok());
            value
                .map(|value| (name.clone(), value))
                .ok_or_else(|| SecretsError::Missing { name: name.clone() })
        };
        job.secrets.iter().map(find).collect()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("from", &self.from).field("names", &self.file.keys()).finish()
    }
}

/// The names and values of a file, or the number of the line that is neither.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut secrets = BTreeMap::new();
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (name, value) = trimmed.trim_start_matches("export ").split_once('=').ok_or(number)?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(number);
        }
        let value = match value.trim().strip_prefix('"') {
            Some(start) => quoted(start, &mut lines).ok_or(number)?,
            None => {
                let value = value.trim();
                value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).unwrap_or(value).to_owned()
            }
        };
        secrets.insert(name.to_owned(), value);
    }
    Ok(secrets)
}

/// Reads on to the closing double quote, over lines if need be.
fn quoted<'a>(start: &'a str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<String> {
    let mut value = String::new();
    let mut line = start;
    loop {
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => return Some(value),
                '\\' => match characters.next() {
                    Some('n') => value.push('\n'),
                    Some(other) => value.push(other),
                    None => value.push('\n'),
                },
                other => value.push(other),
            }
        }
        value.push('\n');
        line = lines.next()?.1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_plain_quoted_and_long_values() {
        let text = "# comment\nA=1\nexport B='x y'\nC=\"two\nlines \\\"q\\\"\"\n\nD=\n";
        let secrets = parse(text).unwrap();
        let expected = [("A", "1"), ("B", "x y"), ("C", "two\nlines \"q\""), ("D", "")];
        assert_eq!(secrets, expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        assert_eq!(parse("A=1\nnothing\n"), Err(2));
        assert_eq!(parse("A=\"never closed\n\n"), Err(1));
        assert_eq!(parse("a b=1"), Err(1));
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "A=1").unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(Secrets::load(Some(file.path())), Err(SecretsError::Exposed(_))));
    }
}
