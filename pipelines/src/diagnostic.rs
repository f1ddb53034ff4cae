use std::fmt;

use miette::{
    GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError, MietteSpanContents, SourceCode,
    SourceSpan, SpanContents,
};

use crate::source::Span;

/// The most problems one file reports; further ones only repeat what the first said.
pub const MAX_DIAGNOSTICS: usize = 50;
/// The width to which [`render`] wraps, in columns.
const RENDER_WIDTH: usize = 110;
/// The lines shown before and after the one with the problem.
const CONTEXT_LINES: usize = 1;
/// The most columns shown of a line: what is wrong with a line of a megabyte must still be readable.
const MAX_EXCERPT_COLUMNS: usize = 160;

/// One problem of a pipeline file, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    message: String,
    help: Option<String>,
    span: Span,
    line: usize,
    column: usize,
}

impl Diagnostic {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, span, line: 1, column: 1 }
    }

    #[must_use]
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What is wrong, on one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The line, counted from one.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, counted from one.
    pub fn column(&self) -> usize {
        self.column
    }
}

/// Every problem found in one pipeline file, in the file's order, with the text they point into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    name: String,
    text: String,
    all: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Sorts the problems and works out their lines.
    pub(crate) fn new(name: &str, text: &str, mut all: Vec<Diagnostic>) -> Self {
        all.sort_by_key(|diagnostic| diagnostic.span.start);
        all.dedup();
        all.truncate(MAX_DIAGNOSTICS);
        for diagnostic in &mut all {
            let before = &text[..diagnostic.span.start];
            diagnostic.line = before.matches('\n').count() + 1;
            diagnostic.column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        }
        Self { name: name.to_owned(), text: text.to_owned(), all }
    }

    /// The file's name, as given to [`Pipeline::parse`](crate::Pipeline::parse).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The problems in the file's order; never empty.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.all.iter()
    }
}

/// One line a problem: `pipeline.yaml:3:5: unknown key`.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Diagnostic { message, line, column, .. }) in self.all.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}:{column}: {message}", self.name)?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Shows every problem with the lines it concerns and a help line, for a terminal or, without colour, for a pipe.
pub fn render(diagnostics: &Diagnostics, color: bool) -> String {
    let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::none() };
    let handler = GraphicalReportHandler::new_themed(theme)
        .with_width(RENDER_WIDTH)
        .with_context_lines(CONTEXT_LINES)
        .with_links(false);
    let mut out = String::new();
    for diagnostic in &diagnostics.all {
        let report = Report { diagnostic, excerpt: Excerpt::new(diagnostics, diagnostic) };
        if handler.render_report(&mut out, &report).is_err() {
            // A span that the excerpt cannot show must not hide the message.
            let Diagnostic { message, line, column, .. } = diagnostic;
            out.push_str(&format!("{}:{line}:{column}: {message}\n", diagnostics.name));
        }
    }
    out
}

/// A diagnostic as miette wants to see it.
#[derive(Debug)]
struct Report<'a> {
    diagnostic: &'a Diagnostic,
    excerpt: Excerpt<'a>,
}

/// The lines around a problem, long ones cut, that know where in the file they were.
#[derive(Debug)]
struct Excerpt<'a> {
    name: &'a str,
    text: String,
    /// The file's line, from zero, and column of the excerpt's first character.
    line: usize,
    column: usize,
    /// The problem, within the excerpt.
    span: (usize, usize),
}

impl<'a> Excerpt<'a> {
    fn new(diagnostics: &'a Diagnostics, diagnostic: &Diagnostic) -> Self {
        let (text, span) = (&diagnostics.text, &diagnostic.span);
        let first = (diagnostic.line - 1).saturating_sub(CONTEXT_LINES);
        let mut excerpt =
            Self { name: &diagnostics.name, text: String::new(), line: first, column: 0, span: (0, 0) };
        // Columns are cut from the left on all lines alike, so that the excerpt keeps its shape.
        let cut = (diagnostic.column - 1).saturating_sub(MAX_EXCERPT_COLUMNS / 2);
        excerpt.column = cut;
        for (i, line) in text.lines().enumerate().skip(first).take(2 * CONTEXT_LINES + 1) {
            if i == diagnostic.line - 1 {
                let start = excerpt.text.len()
                    + char_offset(&line[char_offset(line, cut)..], diagnostic.column - 1 - cut);
                let rest: String = text[span.clone()].lines().next().unwrap_or_default().to_owned();
                excerpt.span = (start, rest.len());
            }
            let shown: String = line.chars().skip(cut).take(MAX_EXCERPT_COLUMNS).collect();
            excerpt.text.push_str(&shown);
            excerpt.text.push('\n');
            if i == diagnostic.line - 1 {
                let (start, length) = excerpt.span;
                excerpt.span.1 = length.clamp(1, (excerpt.text.len() - start).max(2) - 1);
            }
        }
        excerpt
    }
}

/// The byte at which a line's n-th character starts.
fn char_offset(line: &str, n: usize) -> usize {
    line.char_indices().nth(n).map_or(line.len(), |(i, _)| i)
}

impl SourceCode for Excerpt<'_> {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let contents = self.text.read_span(span, before, after)?;
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.to_owned(),
            contents.data(),
            *contents.span(),
            contents.line() + self.line,
            contents.column() + self.column,
            contents.line_count(),
        )))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.diagnostic.message)
    }
}

impl std::error::Error for Report<'_> {}

impl miette::Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.diagnostic.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.excerpt)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = SourceSpan::from(self.excerpt.span);
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, span))))
    }
}
