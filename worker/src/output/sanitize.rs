//! Keeps what a job wrote from acting on the reader's terminal.
//!
//! Escape sequences are those of ECMA-48. Only SGR (colours, weight) is harmless within a line; titles, links,
//! cursor movement, the alternate screen and queries that the terminal would answer are dropped.

use std::iter::Peekable;
use std::str::Chars;

/// Ends all colours and weights.
pub(super) const RESET: &str = "\x1b[0m";
/// The longest SGR sequence that is kept, in bytes of parameters: ample for two 24-bit colours.
const SGR_MAX: usize = 64;
/// The most that is carried from a line to the next, in bytes of SGR sequences.
const CARRY_MAX: usize = 256;

/// What becomes of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colors {
    /// They stay.
    Keep,
    /// They are dropped.
    Strip,
}

/// Makes the lines of one source harmless, and carries its colours from line to line.
#[derive(Debug, Default)]
pub(super) struct Sanitizer {
    /// The SGR sequences since the last reset: another source's line may come between two of this one's, so each
    /// line ends with a reset and the next begins with these again.
    carry: String,
}

impl Sanitizer {
    /// Cleans a line, given without its line end; what is not UTF-8 becomes U+FFFD.
    pub(super) fn line(&mut self, line: &[u8], colors: Colors) -> String {
        let line = String::from_utf8_lossy(line);
        let mut chars = line.chars().peekable();
        let mut out = self.carry.clone();
        // Characters that a backspace may take back: those since the last sequence that was kept.
        let mut erasable = 0_usize;
        while let Some(c) = chars.next() {
            match c {
                '\x1b' => {
                    if let (Some(parameters), Colors::Keep) = (escape(&mut chars), colors) {
                        self.remember(&parameters);
                        out.push_str(&sgr(&parameters));
                        erasable = 0;
                    }
                }
                // Spinners step back over what they drew.
                '\x08' if erasable > 0 => {
                    out.pop();
                    erasable -= 1;
                }
                '\t' => {
                    out.push(c);
                    erasable += 1;
                }
                c if c.is_control() => {}
                c => {
                    out.push(c);
                    erasable += 1;
                }
            }
        }
        if out.contains('\x1b') && !out.ends_with(RESET) {
            out.push_str(RESET);
        }
        out
    }

    fn remember(&mut self, parameters: &str) {
        if parameters.is_empty() || parameters == "0" || parameters.starts_with("0;") {
            self.carry.clear();
        }
        if !parameters.trim_matches(['0', ';']).is_empty() {
            self.carry.push_str(&sgr(parameters));
        }
        if self.carry.len() > CARRY_MAX {
            self.carry.clear();
        }
    }
}

/// A name or a message as one harmless line without colours.
pub(super) fn label(text: &str) -> String {
    let line = text.trim().replace(['\n', '\t'], " ");
    Sanitizer::default().line(line.as_bytes(), Colors::Strip)
}

fn sgr(parameters: &str) -> String {
    format!("\x1b[{parameters}m")
}

/// Takes the rest of an escape sequence; its parameters if it is an SGR.
fn escape(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    match chars.peek()? {
        '[' => {
            chars.next();
            control_sequence(chars)
        }
        // Device control, operating system command and their like: strings that end with BEL or ESC \.
        ']' | 'P' | 'X' | '^' | '_' => {
            while let Some(c) = chars.next() {
                if c == '\x07' || (c == '\x1b' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
            None
        }
        _ => {
            while chars.next_if(|c| (' '..='/').contains(c)).is_some() {}
            chars.next_if(|c| ('0'..='~').contains(c));
            None
        }
    }
}

fn control_sequence(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let mut parameters = String::new();
    while let Some(c) = chars.next_if(|c| (' '..='?').contains(c)) {
        parameters.push(c);
    }
    let last = chars.next_if(|c| ('@'..='~').contains(c))?;
    let plain = parameters.chars().all(|c| c.is_ascii_digit() || c == ';' || c == ':');
    (last == 'm' && plain && parameters.len() <= SGR_MAX).then_some(parameters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &str, kept: &str, stripped: &str) {
        assert_eq!(Sanitizer::default().line(input.as_bytes(), Colors::Keep), kept);
        assert_eq!(Sanitizer::default().line(input.as_bytes(), Colors::Strip), stripped);
    }

    #[test]
    fn keeps_colors_and_ends_them() {
        check("a\x1b[1;31mred\x1b[0m b", "a\x1b[1;31mred\x1b[0m b\x1b[0m", "ared b");
        check("\x1b[38;2;1;2;3mx", "\x1b[38;2;1;2;3mx\x1b[0m", "x");
        check("\x1b[32mok\x1b[0m", "\x1b[32mok\x1b[0m", "ok");
        check("no colour\tat all", "no colour\tat all", "no colour\tat all");
    }

    #[test]
    fn drops_what_acts_on_the_terminal() {
        for (input, rest) in [
            ("a\x1b[2J\x1b[Hb", "ab"),
            ("a\x1b[?1049hb", "ab"),
            ("a\x1b]0;title\x07b", "ab"),
            ("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
            ("a\x1bP1$r\x1b\\b", "ab"),
            ("a\x1b[>4;2mb", "ab"),
            ("a\x1b[6nb", "ab"),
            ("a\x1bcb", "ab"),
            ("a\x1b(0b", "ab"),
            ("a\x07\x00\x0b\x0c\x7fb", "ab"),
            ("a\u{9b}2Jb", "a2Jb"),
            ("a\x1b", "a"),
            ("a\x1b[", "a"),
            ("a\x1b[31", "a"),
            ("a\x1b]0;no end", "a"),
        ] {
            check(input, rest, rest);
        }
    }

    #[test]
    fn steps_back_over_a_spinner_but_not_over_colors() {
        check("wait |\x08/\x08-\x08 \x08done", "wait done", "wait done");
        check("\x08\x08a", "a", "a");
        check("a\x1b[31m\x08b", "a\x1b[31mb\x1b[0m", "b");
    }

    #[test]
    fn carries_colors_to_the_next_line_until_they_are_reset() {
        let mut sanitizer = Sanitizer::default();
        let mut line = |text: &str| sanitizer.line(text.as_bytes(), Colors::Keep);
        assert_eq!(line("\x1b[31mone"), "\x1b[31mone\x1b[0m");
        assert_eq!(line("two"), "\x1b[31mtwo\x1b[0m");
        assert_eq!(line("three\x1b[m"), "\x1b[31mthree\x1b[m\x1b[0m");
        assert_eq!(line("four"), "four");
    }

    #[test]
    fn what_is_carried_is_bounded() {
        let mut sanitizer = Sanitizer::default();
        sanitizer.line("\x1b[31m".repeat(1000).as_bytes(), Colors::Keep);
        assert!(sanitizer.line(b"x", Colors::Keep).len() < 2 * CARRY_MAX);
    }

    #[test]
    fn replaces_what_is_no_utf8() {
        assert_eq!(Sanitizer::default().line(b"a\xff\x9bb", Colors::Keep), "a\u{fffd}\u{fffd}b");
    }

    #[test]
    fn a_label_is_one_line() {
        assert_eq!(label(" a\nb\tc\x1b[31m\r "), "a b c");
    }
}
