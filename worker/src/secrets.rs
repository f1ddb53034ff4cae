//! Secrets, from a file and the environment.
//!
//! The file has a `NAME=value` a line, as dotenv files do: blank lines, lines that begin with `#`, and `export ` before
//! a name are passed over; a value may stand in single quotes, as it is, or in double quotes, with `\n`, `\t`, `\r`,
//! `\"`, `\\` and `\$`, and both may span lines; an unquoted one ends before ` #`. Nothing is substituted. The later of
//! two lines with the same name counts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use engine::types::ErrorKind;
use pipelines::Job;

/// The largest file of secrets, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The mode bit by which others than the owner and the group may read a file.
const OTHERS_READ: u32 = 0o004;

/// What secrets jobs may ask for. The file's take precedence over the environment's.
#[derive(Clone)]
pub struct Secrets {
    file: Option<PathBuf>,
    values: BTreeMap<String, String>,
    environment: fn(&str) -> Option<OsString>,
}

/// Why secrets cannot be had. No message has a value in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The file could not be read.
    #[error("failed to read secrets file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file is too large to be one of secrets.
    #[error("secrets file {path} has more than {MAX_FILE_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Whoever has an account on this machine may read the file.
    #[error("secrets file {path} can be read by other users: chmod 600 it")]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// A line of the file is not `NAME=value`.
    #[error("secrets file {path}:{line}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from one.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Nobody supplied a secret that a job asks for.
    #[error(
        "secret {name} is not set, and job `{job}` needs it: set the environment variable {name}, or give a file with \
         it (--secrets)"
    )]
    Missing {
        /// The job's name.
        job: String,
        /// The secret's name.
        name: String,
    },
    /// The environment's value is not text.
    #[error("secret {name}, which job `{job}` needs, is not valid UTF-8 in the environment")]
    NotText {
        /// The job's name.
        job: String,
        /// The secret's name.
        name: String,
    },
}

impl SecretsError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Forbidden,
                io::ErrorKind::InvalidData => ErrorKind::InvalidArgument,
                _ => ErrorKind::Internal,
            },
            Self::Exposed { .. } => ErrorKind::Forbidden,
            Self::TooLarge { .. } | Self::Malformed { .. } | Self::Missing { .. } | Self::NotText { .. } => {
                ErrorKind::InvalidArgument
            }
        }
    }
}

impl Secrets {
    /// The secrets of this process's environment, and of the file if one is named.
    pub fn load(file: Option<&Path>) -> Result<Self, SecretsError> {
        Self::with_environment(file, |name| std::env::var_os(name))
    }

    fn with_environment(
        path: Option<&Path>,
        environment: fn(&str) -> Option<OsString>,
    ) -> Result<Self, SecretsError> {
        let mut secrets = Self { file: None, values: BTreeMap::new(), environment };
        let Some(path) = path else { return Ok(secrets) };
        let failed = |source| SecretsError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.permissions().mode() & OTHERS_READ != 0 {
            return Err(SecretsError::Exposed { path: path.to_owned() });
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(SecretsError::TooLarge { path: path.to_owned() });
        }
        secrets.values = parse(&text).map_err(|(line, reason)| SecretsError::Malformed {
            path: path.to_owned(),
            line,
            reason,
        })?;
        secrets.file = Some(path.to_owned());
        Ok(secrets)
    }

    /// The names and values that a job asks for, and no others.
    pub fn of(&self, job: &Job) -> Result<Vec<(String, String)>, SecretsError> {
        self.pick(&job.name, &job.secrets)
    }

    fn pick(&self, job: &str, names: &[String]) -> Result<Vec<(String, String)>, SecretsError> {
        let value = |name: &String| {
            if let Some(value) = self.values.get(name) {
                return Ok((name.clone(), value.clone()));
            }
            let (job, name) = (job.to_owned(), name.clone());
            match (self.environment)(&name).map(OsString::into_string) {
                Some(Ok(value)) => Ok((name, value)),
                Some(Err(_)) => Err(SecretsError::NotText { job, name }),
                None => Err(SecretsError::Missing { job, name }),
            }
        };
        names.iter().map(value).collect()
    }
}

impl fmt::Debug for Secrets {
    /// Shows names only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&String> = self.values.keys().collect();
        f.debug_struct("Secrets").field("file", &self.file).field("names", &names).finish_non_exhaustive()
    }
}

/// Where and why a text is not a list of secrets.
type Fault = (usize, &'static str);

fn parse(text: &str) -> Result<BTreeMap<String, String>, Fault> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    let mut values = BTreeMap::new();
    while !rest.is_empty() {
        let end = rest.find('\n').unwrap_or(rest.len());
        let start = rest[..end].trim();
        if start.is_empty() || start.starts_with('#') {
            rest = rest.get(end + 1..).unwrap_or("");
            line += 1;
            continue;
        }
        let equals = rest[..end].find('=').ok_or((line, "expected NAME=value"))?;
        let name = rest[..equals].trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        if !is_name(name) {
            return Err((line, "a name has letters, digits and underscores, and starts with no digit"));
        }
        let (value, after) = value(&rest[equals + 1..]).map_err(|reason| (line, reason))?;
        if value.contains('\0') {
            return Err((line, "a value cannot contain a NUL character"));
        }
        line += rest[..rest.len() - after.len()].matches('\n').count();
        values.insert(name.to_owned(), value);
        rest = after;
    }
    Ok(values)
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// A value and the text from the next line on.
fn value(text: &str) -> Result<(String, &str), &'static str> {
    let text = text.trim_start_matches([' ', '\t']);
    if let Some(quoted) = text.strip_prefix('\'') {
        let (value, after) = quoted.split_once('\'').ok_or("the single quote is never closed")?;
        return Ok((value.to_owned(), line_end(after)?));
    }
    if let Some(quoted) = text.strip_prefix('"') {
        let (value, after) = double_quoted(quoted)?;
        return Ok((value, line_end(after)?));
    }
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let comment = line.find(" #").or_else(|| line.find("\t#")).unwrap_or(line.len());
    Ok((line[..comment].trim().to_owned(), after))
}

/// The value up to the closing quote, and what follows it.
fn double_quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('"' | '\\' | '$'))) => value.push(c),
                // Regular expressions and Windows paths are written so.
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("the double quote is never closed")
}

/// The text from the next line on; before it only a comment may stand.
fn line_end(text: &str) -> Result<&str, &'static str> {
    let (line, after) = text.split_once('\n').unwrap_or((text, ""));
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        Ok(after)
    } else {
        Err("unexpected text after the closing quote")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let values = parse(text).unwrap();
        let values: Vec<(&str, &str)> = values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn reads_what_dotenv_files_have() {
        check("", &[]);
        check(
            "# note\n\n  A=1\r\nexport B = two words # note\nC=\nD=a#b",
            &[("A", "1"), ("B", "two words"), ("C", ""), ("D", "a#b")],
        );
        check(
            "A='it is $X \\n' # note\nB=\"x\\ty\\\"\\\\\\$\\d\"",
            &[("A", "it is $X \\n"), ("B", "x\ty\"\\$\\d")],
        );
        check(
            "K=\"-----BEGIN\nabc=\n# no comment\n-----END\"\nL='a\nb'\n",
            &[("K", "-----BEGIN\nabc=\n# no comment\n-----END"), ("L", "a\nb")],
        );
        check("\u{feff}A=1\nA=2", &[("A", "2")]);
    }

    #[test]
    fn faults_name_the_line() {
        let fault = |text: &str| parse(text).unwrap_err();
        assert_eq!(fault("A=1\nB"), (2, "expected NAME=value"));
        assert_eq!(fault("A=\"1\n2\"\n1B=2").0, 3);
        assert_eq!(fault("=x").0, 1);
        assert_eq!(fault("\nA=\"x\n"), (2, "the double quote is never closed"));
        assert_eq!(fault("A=\"x\\"), (1, "the double quote is never closed"));
        assert_eq!(fault("A='x"), (1, "the single quote is never closed"));
        assert_eq!(fault("A='x' y"), (1, "unexpected text after the closing quote"));
        assert_eq!(fault("A=\0"), (1, "a value cannot contain a NUL character"));
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn environment(name: &str) -> Option<OsString> {
        use std::os::unix::ffi::OsStringExt;
        match name {
            "TOKEN" => Some("from the environment".into()),
            "OTHER" => Some("never asked for".into()),
            "BINARY" => Some(OsString::from_vec(vec![0xff])),
            _ => None,
        }
    }

    #[test]
    fn jobs_get_what_they_ask_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        write(&path, "KEY=from the file\nUNUSED=x\n", 0o600);
        let secrets = Secrets::with_environment(Some(&path), environment).unwrap();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            secrets.pick("test", &names(&["TOKEN", "KEY"])).unwrap(),
            [pair("TOKEN", "from the environment"), pair("KEY", "from the file")]
        );
        assert_eq!(secrets.pick("test", &[]).unwrap(), []);
        assert_eq!(
            secrets.pick("test", &names(&["GONE"])).unwrap_err().to_string(),
            "secret GONE is not set, and job `test` needs it: set the environment variable GONE, or give a file with \
             it (--secrets)"
        );
        assert!(matches!(secrets.pick("t", &names(&["BINARY"])), Err(SecretsError::NotText { .. })));
        assert!(!format!("{secrets:?}").contains("from the file"));
    }

    #[test]
    fn the_file_goes_before_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        write(&path, "TOKEN=from the file", 0o640);
        let secrets = Secrets::with_environment(Some(&path), environment).unwrap();
        assert_eq!(secrets.pick("test", &["TOKEN".to_owned()]).unwrap()[0].1, "from the file");
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        let error = Secrets::load(Some(&path)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        write(&path, "hunter2", 0o604);
        assert!(matches!(Secrets::load(Some(&path)), Err(SecretsError::Exposed { .. })));
        write(&path, "hunter2", 0o600);
        let error = Secrets::load(Some(&path)).unwrap_err().to_string();
        assert!(error.ends_with("secrets:1: expected NAME=value") && !error.contains("hunter2"), "{error}");
        write(&path, &"\n".repeat(MAX_FILE_BYTES as usize + 1), 0o600);
        assert!(matches!(Secrets::load(Some(&path)), Err(SecretsError::TooLarge { .. })));
    }
}
