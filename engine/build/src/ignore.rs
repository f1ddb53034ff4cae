//! `.dockerignore` (Docker's documentation, "Build context"; moby's `patternmatcher`).

use std::io;
use std::path::{Path, PathBuf};

use crate::error::BuildError;
use crate::pattern::Pattern;

/// Which files of the context do not exist for the build.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    /// `!`: what matches is not ignored after all.
    exception: bool,
    pattern: Pattern,
    text: String,
}

impl Ignore {
    /// Reads `<Dockerfile>.dockerignore` beside the Dockerfile or, if there is none, the context's `.dockerignore`.
    pub fn load(
        context: &Path,
        dockerfile: &Path,
        read: impl Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, BuildError> {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        for path in [PathBuf::from(own), context.join(".dockerignore")] {
            match read(&path) {
                Ok(bytes) => return Self::parse(&String::from_utf8_lossy(&bytes), &path),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(source) => return Err(BuildError::Context { path, source }),
            }
        }
        Ok(Self::default())
    }

    /// Reads the patterns; `path` is what errors call the file.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, BuildError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut rules = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line_text = line.trim();
            // A comment begins in the first column, as in moby's reader.
            if line.starts_with('#') || line_text.is_empty() {
                continue;
            }
            let (exception, pattern) = match line_text.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line_text),
            };
            let refused = |reason| BuildError::IgnorePattern {
                path: path.to_owned(),
                line: number + 1,
                pattern: line_text.to_owned(),
                reason,
            };
            if pattern.is_empty() {
                return Err(refused("an exclamation mark stands alone"));
            }
            let text = clean(pattern);
            if text.is_empty() {
                // "." and "/" mean the context itself, which is never ignored.
                continue;
            }
            let pattern = Pattern::parse(&text, true).map_err(refused)?;
            rules.push(Rule { exception, pattern, text });
        }
        Ok(Self { rules })
    }

    /// Whether the file at `path`, relative to the context, is ignored: the last rule that matches it or a directory
    /// above it decides.
    pub fn is_ignored(&self, path: &str) -> bool {
        let mut ignored = false;
        for rule in &self.rules {
            // Only a rule that changes the answer needs to be matched.
            if rule.exception == ignored && rule.matches_or_parent(path) {
                ignored = !rule.exception;
            }
        }
        ignored
    }

    /// Whether something below the ignored directory `path` may not be ignored.
    pub fn may_have_exceptions(&self, path: &str) -> bool {
        self.rules.iter().any(|rule| {
            rule.exception
                && (!rule.pattern.is_literal()
                    || rule.text.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
        })
    }
}

impl Rule {
    fn matches_or_parent(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(i, _)| &path[..i]);
        self.pattern.matches(path) || parents.into_iter().any(|parent| self.pattern.matches(parent))
    }
}

/// Go's `filepath.Clean`, and no slash at the beginning.
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rules: &str, ignored: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(rules, Path::new(".dockerignore")).unwrap();
        for path in ignored {
            assert!(ignore.is_ignored(path), "{path} should be ignored by {rules:?}");
        }
        for path in kept {
            assert!(!ignore.is_ignored(path), "{path} should be kept by {rules:?}");
        }
    }

    #[test]
    fn follows_dockers_rules() {
        check("node_modules", &["node_modules", "node_modules/a/b"], &["x/node_modules", "node_modules2"]);
        check("/target/\n./out", &["target/x", "out"], &["a/target"]);
        check("*/temp*", &["a/temp", "a/temporary.txt", "a/temp/x"], &["temp", "a/b/temp"]);
        check("*/*/temp*", &["a/b/temp1"], &["a/temp1"]);
        check("temp?", &["tempa"], &["temp", "tempab"]);
        check("**/*.o", &["x.o", "a/b/c.o"], &["x.c"]);
        check("**", &["x", "a/b"], &[]);
        check("a/**/z", &["a/z", "a/b/c/z"], &["b/z"]);
        check("docs/**", &["docs/a", "docs/a/b"], &["docs"]);
        check("# comment\n\n*.md\n!README.md", &["a.md"], &["README.md", "# comment", "docs/a.md"]);
        check("*.md\n!README*.md\nREADME-secret.md", &["README-secret.md", "x.md"], &["README-1.md"]);
        check("*\n!src", &["a", "b/c"], &["src", "src/a/b"]);
        check("!src\nsrc", &["src/a"], &[]);
        check("[a-c]x", &["ax", "cx"], &["dx"]);
        check("[^a-c]x", &["dx"], &["ax"]);
        check("a/../b", &["b"], &["a"]);
        check(r"\*", &["*"], &["a"]);
        check(".\n/", &[], &["a"]);
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        let error = Ignore::parse("a\n[x", Path::new(".dockerignore")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\".dockerignore\", line 2: \"[x\" is no pattern: a bracket is not closed"
        );
        assert!(Ignore::parse("!", Path::new("x")).is_err());
    }
}
