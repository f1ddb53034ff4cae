//! Variables in words, as Docker's builder expands them (BuildKit's `frontend/dockerfile/shell/lex.go`).

use std::iter::Peekable;
use std::str::Chars;

use crate::pattern;

/// Expands the variables of a word and removes its quotes. Unknown variables are empty. The error says what is wrong
/// with the word.
pub(crate) fn expand(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let mut lexer = Lexer { chars: word.chars().peekable(), escape, lookup, quotes: true, depth: 0 };
    lexer.until(None)
}

/// Expands the variables of a here-document, where quotes are characters like any other.
pub(crate) fn expand_document(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    // A here-document's escape is always the backslash.
    let mut lexer = Lexer { chars: text.chars().peekable(), escape: '\\', lookup, quotes: false, depth: 0 };
    lexer.until(None)
}

/// `${a:-${b:-…}}` may be nested this deep.
const DEPTH_MAX: u32 = 32;

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// Quotes are removed and have their meaning.
    quotes: bool,
    depth: u32,
}

impl Lexer<'_> {
    /// Reads up to the character `end`, which is consumed, or to the end of the word.
    fn until(&mut self, end: Option<char>) -> Result<String, String> {
        let mut out = String::new();
        loop {
            match self.chars.next() {
                None if end.is_some() => return Err("unexpected end of statement, missing }".to_owned()),
                None => return Ok(out),
                Some(c) if Some(c) == end => return Ok(out),
                Some('\'') if self.quotes => self.single_quoted(&mut out)?,
                Some('"') if self.quotes => self.double_quoted(&mut out)?,
                Some('$') => out.push_str(&self.variable()?),
                Some(c) if c == self.escape && self.quotes => out.extend(self.chars.next()),
                Some(c) if c == self.escape => match self.chars.next_if(|&next| next == '$' || next == c) {
                    Some(escaped) => out.push(escaped),
                    None => out.push(c),
                },
                Some(c) => out.push(c),
            }
        }
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<(), String> {
        loop {
            match self.chars.next() {
                None => {
                    return Err("unexpected end of statement while looking for matching single-quote".into());
                }
                Some('\'') => return Ok(()),
                Some(c) => out.push(c),
            }
        }
    }

    fn double_quoted(&mut self, out: &mut String) -> Result<(), String> {
        loop {
            match self.chars.next() {
                None => {
                    return Err("unexpected end of statement while looking for matching double-quote".into());
                }
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.variable()?),
                Some(c) if c == self.escape => {
                    let escape = self.escape;
                    match self.chars.next_if(|&next| next == '"' || next == '$' || next == escape) {
                        Some(escaped) => out.push(escaped),
                        None => out.push(c),
                    }
                }
                Some(c) => out.push(c),
            }
        }
    }

    /// Reads what stands after a dollar sign.
    fn variable(&mut self) -> Result<String, String> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() {
                "$".to_owned()
            } else {
                (self.lookup)(&name).unwrap_or_default()
            });
        }
        let name = self.name();
        if name.is_empty() {
            return Err("bad substitution".to_owned());
        }
        let value = (self.lookup)(&name);
        match self.chars.next() {
            Some('}') => Ok(value.unwrap_or_default()),
            Some(':') => {
                let operator = self.chars.next().ok_or("missing ':' in substitution")?;
                self.conditional(&name, operator, value.filter(|value| !value.is_empty()))
            }
            Some(operator @ ('-' | '+' | '?')) => self.conditional(&name, operator, value),
            Some(operator @ ('#' | '%')) => {
                let longest = self.chars.next_if_eq(&operator).is_some();
                let pattern = self.nested()?;
                let value = value.unwrap_or_default();
                Ok(if operator == '#' {
                    pattern::strip_prefix(&value, &pattern, longest)
                } else {
                    pattern::strip_suffix(&value, &pattern, longest)
                })
            }
            Some('/') => self.replace(&value.unwrap_or_default()),
            Some(other) => Err(format!("unsupported modifier ({other}) in substitution")),
            None => Err("unexpected end of statement, missing }".to_owned()),
        }
    }

    fn conditional(&mut self, name: &str, operator: char, value: Option<String>) -> Result<String, String> {
        let word = self.nested()?;
        match operator {
            '-' => Ok(value.unwrap_or(word)),
            '+' => Ok(if value.is_some() { word } else { String::new() }),
            '?' => value.ok_or_else(|| {
                let message = if word.is_empty() { "is not allowed to be unset" } else { &word };
                format!("{name}: {message}")
            }),
            other => Err(format!("unsupported modifier (:{other}) in substitution")),
        }
    }

    /// `${name/pattern/replacement}`, with a second slash for all of them.
    fn replace(&mut self, value: &str) -> Result<String, String> {
        let all = self.chars.next_if_eq(&'/').is_some();
        let pattern = self.deeper(|lexer| lexer.until(Some('/')))?;
        let replacement = self.nested()?;
        Ok(pattern::replace(value, &pattern, &replacement, all))
    }

    fn nested(&mut self) -> Result<String, String> {
        self.deeper(|lexer| lexer.until(Some('}')))
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Result<String, String>) -> Result<String, String> {
        if self.depth == DEPTH_MAX {
            return Err(format!("substitutions are nested more than {DEPTH_MAX} deep"));
        }
        self.depth += 1;
        let word = read(self);
        self.depth -= 1;
        word
    }

    /// A name, one digit or one of the shell's special characters.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.chars.peek() {
            Some(&c) if c.is_ascii_digit() || "@*#?-$!".contains(c) => {
                name.extend(self.chars.next());
                return name;
            }
            _ => {}
        }
        while let Some(c) = self.chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        let value = match name {
            "A" => "value",
            "E" => "",
            "P" => "/usr/local/lib.tar.gz",
            "1" => "one",
            "é" => "letter",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn expands_as_docker_does() {
        let table = [
            ("plain", "plain"),
            ("$A", "value"),
            ("${A}", "value"),
            ("x${A}y$A.z", "xvalueyvalue.z"),
            ("$AB", ""),
            ("$U", ""),
            ("${U:-word}", "word"),
            ("${E:-word}", "word"),
            ("${E-word}", ""),
            ("${U-word}", "word"),
            ("${A:-word}", "value"),
            ("${A:+word}", "word"),
            ("${E:+word}", ""),
            ("${E+word}", "word"),
            ("${U+word}", ""),
            ("${U:-${E:-$A}}", "value"),
            ("${U:-'a b'}", "a b"),
            ("${A:?gone}", "value"),
            ("${P#*/}", "usr/local/lib.tar.gz"),
            ("${P##*/}", "lib.tar.gz"),
            ("${P%.*}", "/usr/local/lib.tar"),
            ("${P%%.*}", "/usr/local/lib"),
            ("${P#nope}", "/usr/local/lib.tar.gz"),
            ("${P/l/L}", "/usr/Local/lib.tar.gz"),
            ("${P//l/L}", "/usr/LocaL/Lib.tar.gz"),
            ("\\$A", "$A"),
            ("a\\ b", "a b"),
            ("\\\\", "\\"),
            ("'$A'", "$A"),
            ("'a\\b'", "a\\b"),
            ("\"$A x\"", "value x"),
            ("\"\\$A \\\" \\n\"", "$A \" \\n"),
            ("it''s", "its"),
            ("$", "$"),
            ("$ x", "$ x"),
            ("$1x", "onex"),
            ("$é", "letter"),
            ("tail\\", "tail"),
        ];
        for (word, expected) in table {
            assert_eq!(expand(word, '\\', &lookup).as_deref(), Ok(expected), "{word}");
        }
        assert_eq!(expand("c:\\x`$A", '`', &lookup).unwrap(), "c:\\x$A");
        assert_eq!(
            expand_document("'$A' \"\\$A\" \\n ${U:-x}\n", &lookup).unwrap(),
            "'value' \"$A\" \\n x\n"
        );
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let table = [
            ("${A", "unexpected end of statement, missing }"),
            ("${}", "bad substitution"),
            ("${A:=x}", "unsupported modifier (:=) in substitution"),
            ("${A!}", "unsupported modifier (!) in substitution"),
            ("'open", "unexpected end of statement while looking for matching single-quote"),
            ("\"open", "unexpected end of statement while looking for matching double-quote"),
            ("${U:?}", "U: is not allowed to be unset"),
            ("${U?give it}", "U: give it"),
        ];
        for (word, expected) in table {
            assert_eq!(expand(word, '\\', &lookup), Err(expected.to_owned()), "{word}");
        }
        assert!(expand(&"${U:-".repeat(10_000), '\\', &lookup).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(word in "[${}A:+'\"#%/*?\\[\\\\-]{0,30}") {
            let _ = expand(&word, '\\', &lookup);
            let _ = expand_document(&word, &lookup);
        }
    }
}
