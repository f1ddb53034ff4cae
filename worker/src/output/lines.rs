use super::sanitize::{Colors, Sanitizer};

/// The longest line that is kept together, in bytes; a longer one is broken here.
const LINE_MAX: usize = 16 * 1024;
/// How far before a break an escape sequence may have begun that must not be broken, in bytes.
const ESCAPE_MAX: usize = 64;
const ESC: u8 = 0x1b;

/// Puts together the lines of one source, whose output comes in pieces cut anywhere.
///
/// A carriage return means that what follows replaces the line, as on a terminal: of a progress bar the last
/// state makes it into the log.
#[derive(Debug, Default)]
pub(super) struct LineBuffer {
    pending: Vec<u8>,
    returned: bool,
    sanitizer: Sanitizer,
}

impl LineBuffer {
    /// Takes a piece, gives the lines that it completes.
    pub(super) fn push(&mut self, bytes: &[u8], colors: Colors) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            match byte {
                b'\n' => lines.push(self.take(self.pending.len(), colors)),
                b'\r' => self.returned = true,
                _ => {
                    if std::mem::take(&mut self.returned) {
                        self.pending.clear();
                    }
                    self.pending.push(byte);
                    if self.pending.len() >= LINE_MAX {
                        lines.push(self.take(break_at(&self.pending), colors));
                    }
                }
            }
        }
        lines
    }

    /// Gives the last line if it had no line end.
    pub(super) fn finish(&mut self, colors: Colors) -> Option<String> {
        (!self.pending.is_empty()).then(|| self.take(self.pending.len(), colors))
    }

    /// The line as it stands, without colours.
    pub(super) fn current(&self) -> String {
        Sanitizer::default().line(&self.pending, Colors::Strip)
    }

    fn take(&mut self, length: usize, colors: Colors) -> String {
        self.returned = false;
        let line = self.sanitizer.line(&self.pending[..length], colors);
        self.pending.drain(..length);
        line
    }
}

/// Where to break an overlong line: not within an escape sequence, not within a character.
fn break_at(line: &[u8]) -> usize {
    let tail = line.len().saturating_sub(ESCAPE_MAX);
    if let Some(escape) = line[tail..].iter().rposition(|&byte| byte == ESC) {
        return tail + escape;
    }
    // The first byte of the last character: UTF-8 continues with 10xxxxxx.
    let Some(lead) = line.iter().rposition(|byte| byte & 0xc0 != 0x80) else { return line.len() };
    let length = match line[lead] {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    };
    if lead + length > line.len() { lead } else { line.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&str], lines: &[&str], rest: Option<&str>) {
        let mut buffer = LineBuffer::default();
        let got: Vec<String> =
            pieces.iter().flat_map(|piece| buffer.push(piece.as_bytes(), Colors::Keep)).collect();
        assert_eq!(got, lines);
        assert_eq!(buffer.finish(Colors::Keep).as_deref(), rest);
        assert_eq!(buffer.finish(Colors::Keep), None);
    }

    #[test]
    fn joins_pieces_into_lines() {
        check(&["a", "b\nc", "\n\nd"], &["ab", "c", ""], Some("d"));
        check(&["a\r\nb\r", "\n"], &["a", "b"], None);
        check(&[], &[], None);
    }

    #[test]
    fn a_carriage_return_starts_the_line_over() {
        check(&["10%\r50%\r", "100%\n"], &["100%"], None);
        check(&["10%\r50%\r"], &[], Some("50%"));
        check(&["10%\r\r\n"], &["10%"], None);
    }

    #[test]
    fn shows_a_line_as_it_grows() {
        let mut buffer = LineBuffer::default();
        buffer.push(b"done\n\x1b[31m10%\r20%", Colors::Keep);
        assert_eq!(buffer.current(), "20%");
    }

    #[test]
    fn breaks_overlong_lines_between_characters_and_sequences() {
        for tail in ["é", "\x1b[31mx", "😀"] {
            for shift in 0..8 {
                let text = "x".repeat(LINE_MAX - shift) + tail;
                let mut buffer = LineBuffer::default();
                let mut got = buffer.push(text.as_bytes(), Colors::Strip).concat();
                got.push_str(&buffer.finish(Colors::Strip).unwrap_or_default());
                assert_eq!(got, text.replace("\x1b[31m", ""), "{tail:?} {shift}");
            }
        }
        let mut buffer = LineBuffer::default();
        for _ in 0..4 {
            buffer.push(&[0x80; LINE_MAX], Colors::Strip);
        }
        assert!(buffer.pending.len() < LINE_MAX);
    }
}
