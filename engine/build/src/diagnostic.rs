use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Problem;

/// A text with instructions: a Dockerfile, or one trigger of a base image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// What errors call it: the file's name, or `ONBUILD of <image>`.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A place in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    /// Byte offsets into the source's text.
    pub(crate) span: Range<usize>,
}

/// A line of a Dockerfile with the part of it that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file as it was named.
    pub file: String,
    /// Counted from one.
    pub line: usize,
    /// In characters, counted from one.
    pub column: usize,
    /// How many characters are meant, at least one.
    pub width: usize,
    /// The line itself.
    pub text: String,
}

/// What went wrong and where. Displays as a message with the line below it and a mark below that.
#[derive(Debug)]
pub struct Diagnostic {
    /// Where.
    pub location: Box<Location>,
    /// What.
    pub problem: Box<Problem>,
}

/// Longer lines are cut when they are shown.
const SHOWN_CHARS: usize = 160;

impl Place {
    pub(crate) fn location(&self) -> Location {
        let text = &self.source.text;
        let start = floor_char(text, self.span.start);
        let end = floor_char(text, self.span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let column = text[line_start..start].chars().count() + 1;
        let marked = text[start..end.min(line_start + line.len()).max(start)].trim_end().chars().count();
        Location {
            file: self.source.name.clone(),
            line: text[..line_start].matches('\n').count() + 1,
            column,
            width: marked.max(1),
            text: line.to_owned(),
        }
    }

    pub(crate) fn problem(&self, problem: Problem) -> Diagnostic {
        Diagnostic { location: Box::new(self.location()), problem: Box::new(problem) }
    }

    /// The same source, another part.
    pub(crate) fn at(&self, span: Range<usize>) -> Self {
        Self { source: Arc::clone(&self.source), span }
    }
}

fn floor_char(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { file, line, column, width, text } = &*self.location;
        // Tabs would put the mark elsewhere than the text it marks.
        let shown: String = text.replace('\t', " ").chars().take(SHOWN_CHARS).collect();
        let left = SHOWN_CHARS.saturating_sub(*column - 1).max(1);
        let number = line.to_string();
        let indent = " ".repeat(number.len());
        writeln!(f, "{file}:{line}: {}", self.problem)?;
        writeln!(f, " {indent} |")?;
        writeln!(f, " {number} | {shown}")?;
        let offset = " ".repeat((*column - 1).min(SHOWN_CHARS));
        write!(f, " {indent} | {offset}{}", "^".repeat((*width).min(left)))
    }
}

impl std::error::Error for Diagnostic {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.problem)
    }
}
