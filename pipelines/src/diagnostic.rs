use std::fmt;

use miette::{GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceSpan};

use crate::source::Span;

/// The most problems one file reports; further ones only repeat what the first said.
pub const MAX_DIAGNOSTICS: usize = 50;
/// The width to which [`render`] wraps, in columns.
const RENDER_WIDTH: usize = 110;

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
        .with_context_lines(1)
        .with_links(false);
    let source = NamedSource::new(&diagnostics.name, diagnostics.text.clone());
    let mut out = String::new();
    for diagnostic in &diagnostics.all {
        let report = Report { diagnostic, source: &source };
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
    source: &'a NamedSource<String>,
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

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = &self.diagnostic.span;
        // A span of several lines would fill the screen: its first line is where to look.
        let text = &self.source.inner()[span.clone()];
        let length = text.find('\n').unwrap_or(text.len()).max(1);
        let length = length.min(self.source.inner().len() - span.start);
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(
            None,
            SourceSpan::from((span.start, length)),
        ))))
    }
}
