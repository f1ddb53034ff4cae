//! Patterns for paths: Go's `filepath.Match` for `COPY` and `ADD`, moby's `patternmatcher` for `.dockerignore`.

/// One element of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`: any character but a slash.
    One,
    /// `*`: any characters but slashes.
    Star,
    /// `**`: any characters.
    Deep,
    /// `**/`: nothing, or any directories.
    DeepDirs,
    /// `[a-z]`, `[^a-z]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A pattern ready to be matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Token>);

impl Pattern {
    /// Reads a pattern of Go's `filepath.Match`; with `deep`, `**` crosses slashes.
    pub(crate) fn parse(text: &str, deep: bool) -> Result<Self, &'static str> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if deep && chars.next_if_eq(&'*').is_some() => {
                    while chars.next_if_eq(&'*').is_some() {}
                    if chars.next_if_eq(&'/').is_some() { Token::DeepDirs } else { Token::Deep }
                }
                '*' => Token::Star,
                '?' => Token::One,
                '\\' => Token::Char(chars.next().ok_or("it ends in a backslash")?),
                '[' => {
                    let negated = chars.next_if_eq(&'^').is_some();
                    let mut ranges = Vec::new();
                    loop {
                        let mut bound = || match chars.next() {
                            None => Err("a bracket is not closed"),
                            Some('\\') => chars.next().ok_or("it ends in a backslash").map(|c| (c, true)),
                            Some(c) => Ok((c, false)),
                        };
                        let (low, escaped) = bound()?;
                        if low == ']' && !escaped && !ranges.is_empty() {
                            break;
                        }
                        if !escaped && (low == ']' || low == '-') {
                            return Err("a bracket is empty or begins with - or ]");
                        }
                        let high = if chars.next_if_eq(&'-').is_some() {
                            match chars.next() {
                                Some('\\') => chars.next().ok_or("it ends in a backslash")?,
                                Some(c) if c != ']' => c,
                                _ => return Err("a range has no end"),
                            }
                        } else {
                            low
                        };
                        ranges.push((low, high));
                    }
                    Token::Class { negated, ranges }
                }
                c => Token::Char(c),
            });
        }
        Ok(Self(tokens))
    }

    /// Whether the whole of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().collect();
        // Which positions of the text the tokens so far can reach: linear in both, whatever the pattern.
        let mut reached = vec![false; text.len() + 1];
        reached[0] = true;
        for token in &self.0 {
            reached = token.step(&text, &reached);
        }
        reached[text.len()]
    }

    /// Whether it has anything special, so that it is no plain path.
    pub(crate) fn is_literal(&self) -> bool {
        self.0.iter().all(|token| matches!(token, Token::Char(_)))
    }

    /// The path it stands for if it is literal.
    pub(crate) fn literal(&self) -> Option<String> {
        self.0.iter().map(|token| if let Token::Char(c) = token { Some(*c) } else { None }).collect()
    }
}

impl Token {
    fn step(&self, text: &[char], from: &[bool]) -> Vec<bool> {
        let mut to = vec![false; from.len()];
        for (at, _) in from.iter().enumerate().filter(|(_, reached)| **reached) {
            match self {
                Self::Char(_) | Self::One | Self::Class { .. } => {
                    if text.get(at).is_some_and(|c| self.takes(*c)) {
                        to[at + 1] = true;
                    }
                }
                Self::Star | Self::Deep => {
                    let mut end = at;
                    // What is set already was spread from there.
                    while !to[end] {
                        to[end] = true;
                        match text.get(end) {
                            Some(c) if *self == Self::Deep || *c != '/' => end += 1,
                            _ => break,
                        }
                    }
                }
                Self::DeepDirs => {
                    to[at] = true;
                    for (i, _) in text.iter().enumerate().skip(at).filter(|(_, c)| **c == '/') {
                        to[i + 1] = true;
                    }
                }
            }
        }
        to
    }

    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::One => c != '/',
            Self::Class { negated, ranges } => {
                c != '/' && ranges.iter().any(|(low, high)| (low..=high).contains(&&c)) != *negated
            }
            Self::Star | Self::Deep | Self::DeepDirs => false,
        }
    }
}

/// Removes the shortest or longest beginning that matches.
pub(crate) fn strip_prefix(value: &str, pattern: &str, longest: bool) -> String {
    let Some(pattern) = shell_pattern(pattern) else { return value.to_owned() };
    let mut ends: Vec<usize> = boundaries(value);
    if longest {
        ends.reverse();
    }
    let end = ends.into_iter().find(|&end| pattern.matches(&value[..end]));
    end.map_or(value, |end| &value[end..]).to_owned()
}

/// Removes the shortest or longest end that matches.
pub(crate) fn strip_suffix(value: &str, pattern: &str, longest: bool) -> String {
    let Some(pattern) = shell_pattern(pattern) else { return value.to_owned() };
    let mut starts: Vec<usize> = boundaries(value);
    if !longest {
        starts.reverse();
    }
    let start = starts.into_iter().find(|&start| pattern.matches(&value[start..]));
    start.map_or(value, |start| &value[..start]).to_owned()
}

/// Replaces the first or all of the longest parts that match.
pub(crate) fn replace(value: &str, pattern: &str, replacement: &str, all: bool) -> String {
    let Some(pattern) = shell_pattern(pattern) else { return value.to_owned() };
    let mut out = String::new();
    let mut at = 0;
    let mut done = false;
    while at < value.len() {
        let end = boundaries(&value[at..]).into_iter().rev().map(|n| at + n);
        let end = end.filter(|&end| end > at).find(|&end| !done && pattern.matches(&value[at..end]));
        let next = at + value[at..].chars().next().map_or(1, char::len_utf8);
        match end {
            Some(end) => {
                out.push_str(replacement);
                at = end;
                done = !all;
            }
            None => {
                out.push_str(&value[at..next]);
                at = next;
            }
        }
    }
    out
}

/// A pattern of `${name#pattern}`: `*` and `?` take slashes too.
fn shell_pattern(text: &str) -> Option<Pattern> {
    let mut pattern = Pattern::parse(text, false).ok()?;
    for token in &mut pattern.0 {
        match token {
            Token::Star => *token = Token::Deep,
            Token::One => *token = Token::Class { negated: true, ranges: Vec::new() },
            _ => {}
        }
    }
    Some(pattern)
}

fn boundaries(value: &str) -> Vec<usize> {
    value.char_indices().map(|(i, _)| i).chain([value.len()]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn matches_as_go_does() {
        // From the table of Go's path/filepath/match_test.go.
        let table = [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("ab[c]", "abc", true),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^c]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("*[a-ζ]", "A", false),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[x\\-]", "z", false),
            ("*x", "xxx", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(Pattern::parse(pattern, false).unwrap().matches(text), expected, "{pattern} {text}");
        }
        for bad in ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "[a-b-c]", "\\"] {
            assert!(Pattern::parse(bad, false).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_literal_matches_itself_only(text in "[a-z/]{0,9}", other in "[a-z/]{0,9}") {
            let pattern = Pattern::parse(&text, true).unwrap();
            prop_assert_eq!(pattern.literal(), Some(text.clone()));
            prop_assert!(pattern.matches(&text));
            prop_assert_eq!(pattern.matches(&other), text == other);
        }

        #[test]
        fn hostile_patterns_take_no_time(stars in 1_usize..60) {
            let pattern = Pattern::parse(&"*a".repeat(stars), true).unwrap();
            let text = "a".repeat(300) + "b";
            prop_assert!(!pattern.matches(&text));
        }
    }
}
