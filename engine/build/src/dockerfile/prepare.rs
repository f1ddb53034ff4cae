//! What `parse-dockerfile` 0.1.9 cannot read is masked before it looks, byte for byte, so that its positions stay
//! true: here-documents of `RUN` that do not stand first or alone, `ENTRYPOINT []`, and `--` after flags.

use std::ops::Range;

use super::words::continues;

/// A text that `parse-dockerfile` understands, as long as the original, and what was masked.
pub(super) struct Prepared {
    pub(super) text: String,
    pub(super) here_docs: Vec<HereDocs>,
    /// Where `ENTRYPOINT` stands of which only an empty list follows.
    pub(super) empty_entrypoints: Vec<usize>,
}

/// The here-documents of one `RUN`, `COPY` or `ADD`.
pub(super) struct HereDocs {
    /// The lines of the instruction.
    pub(super) instruction: Range<usize>,
    /// The documents with their closing lines.
    pub(super) bodies: Range<usize>,
    /// The document's content if there is just one, leading tabs removed where `<<-` says so.
    pub(super) content: Option<String>,
    /// The closing words.
    pub(super) words: Vec<String>,
}

/// A here-document that is not closed: where it begins, and its closing word.
pub(super) struct Unclosed {
    pub(super) span: Range<usize>,
    pub(super) word: String,
}

/// Masks; `text` has no byte-order mark.
pub(super) fn prepare(text: &str) -> Result<Prepared, Unclosed> {
    let escape = escape_of(text);
    let lines = Lines::of(text);
    let mut prepared =
        Prepared { text: text.to_owned(), here_docs: Vec::new(), empty_entrypoints: Vec::new() };
    let mut next = 0;
    while let Some(first) = lines.get(next) {
        next += 1;
        let line = &text[first.clone()];
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        // Comments and empty lines do not end a continued instruction.
        let mut open = continues(line, escape);
        while open && let Some(range) = lines.get(next) {
            let line = text[range].trim_start();
            next += 1;
            open = line.is_empty() || line.starts_with('#') || continues(line, escape);
        }
        let instruction = first.start..lines.get(next - 1).map_or(first.end, |last| last.end);
        let (keyword, rest) = keyword_and_rest(&text[instruction.clone()]);
        if keyword.eq_ignore_ascii_case("ENTRYPOINT") && is_empty_list(rest) {
            let at = first.start + line.len() - trimmed.len();
            prepared.text.replace_range(at..at + keyword.len(), "CMD       ");
            prepared.empty_entrypoints.push(at);
        } else if let Some(dashes) = end_of_flags(rest) {
            let at = instruction.end - rest.len() + dashes;
            prepared.text.replace_range(at..at + 2, "  ");
        }
        if let Some(run) = may_have_here_docs(keyword, rest) {
            next = here_docs(text, &lines, next, instruction, run, &mut prepared)?;
        }
    }
    Ok(prepared)
}

/// Notes the here-documents that begin in `instruction` and masks those of a `RUN`; gives the number of the first
/// line after them.
fn here_docs(
    text: &str,
    lines: &Lines,
    mut next: usize,
    instruction: Range<usize>,
    run: bool,
    prepared: &mut Prepared,
) -> Result<usize, Unclosed> {
    let openers = openers(&text[instruction.clone()]);
    let Some(bodies_start) = lines.get(next).map(|line| line.start) else {
        return match openers.into_iter().next() {
            Some(opener) => Err(opener.unclosed(instruction.start)),
            None => Ok(next),
        };
    };
    let mut content = String::new();
    for opener in &openers {
        content.clear();
        loop {
            let Some(range) = lines.get(next) else { return Err(opener.unclosed(instruction.start)) };
            next += 1;
            let line = &text[range];
            let line = if opener.strip_tabs { line.trim_start_matches('\t') } else { line };
            if line.trim_end_matches('\r') == opener.word {
                break;
            }
            content.push_str(line);
            content.push('\n');
        }
    }
    if openers.is_empty() {
        return Ok(next);
    }
    let bodies_end = lines.get(next - 1).map_or(text.len(), |line| line.end);
    if run {
        for opener in &openers {
            let at = instruction.start + opener.span.start;
            prepared.text.replace_range(at..at + 2, "::");
        }
        let masked = comment_out(&text[bodies_start..bodies_end]);
        prepared.text.replace_range(bodies_start..bodies_end, &masked);
    }
    let content = (openers.len() == 1).then_some(content);
    let words = openers.into_iter().map(|opener| opener.word).collect();
    prepared.here_docs.push(HereDocs { instruction, bodies: bodies_start..bodies_end, content, words });
    Ok(next)
}

/// Comments of the same length, line by line.
fn comment_out(body: &str) -> String {
    let line = |line: &str| match line.len() {
        0 => String::new(),
        n => format!("#{}", " ".repeat(n - 1)),
    };
    body.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// `<<WORD` in a command.
struct Opener {
    span: Range<usize>,
    word: String,
    strip_tabs: bool,
}

impl Opener {
    fn unclosed(&self, offset: usize) -> Unclosed {
        Unclosed { span: offset + self.span.start..offset + self.span.end, word: self.word.clone() }
    }
}

/// Finds what begins here-documents: `<<`, perhaps `-`, and a word, outside of quotes, where a word may begin.
///
/// BuildKit's `heredocFromMatch` asks for the same form: `^(\d*)<<(-?)([^<]*)$` of a shell word.
fn openers(command: &str) -> Vec<Opener> {
    let mut found = Vec::new();
    let mut quote = None;
    let mut word_start = true;
    let mut chars = command.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => {
                chars.next();
                word_start = false;
                continue;
            }
            (Some(q), _) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '<') if word_start => {
                if let Some(opener) = opener_at(command, at) {
                    while chars.next_if(|(i, _)| *i < opener.span.end).is_some() {}
                    found.push(opener);
                    word_start = false;
                    continue;
                }
                // `<<<` is the shell's own here-string.
                while chars.next_if(|(_, c)| *c == '<').is_some() {}
            }
            (None, _) => {}
        }
        word_start = quote.is_none() && (c.is_whitespace() || (word_start && c.is_ascii_digit()));
    }
    found
}

fn opener_at(command: &str, at: usize) -> Option<Opener> {
    let rest = command[at..].strip_prefix("<<")?;
    let (rest, strip_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
    let mut word = String::new();
    let mut quote = None;
    let mut chars = rest.char_indices().peekable();
    while let Some((_, c)) = chars.next_if(|(_, c)| match quote {
        Some(_) => *c != '\n',
        None => !c.is_whitespace() && !"<>|&;()".contains(*c),
    }) {
        match (quote, c) {
            (Some(q), _) if c == q => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '\\') => word.extend(chars.next_if(|(_, c)| *c != '\n').map(|(_, c)| c)),
            _ => word.push(c),
        }
    }
    let length = chars.peek().map_or(rest.len(), |(i, _)| *i);
    let end = command.len() - rest.len() + length;
    let here_string = rest[length..].starts_with('<');
    (!word.is_empty() && !here_string).then_some(Opener { span: at..end, word, strip_tabs })
}

/// Whether an instruction may have here-documents, and then whether it is a `RUN`.
fn may_have_here_docs(keyword: &str, rest: &str) -> Option<bool> {
    let (keyword, rest) =
        if keyword.eq_ignore_ascii_case("ONBUILD") { keyword_and_rest(rest) } else { (keyword, rest) };
    let run = keyword.eq_ignore_ascii_case("RUN");
    let copy = keyword.eq_ignore_ascii_case("COPY") || keyword.eq_ignore_ascii_case("ADD");
    ((run || copy) && !is_exec_form(rest)).then_some(run)
}

fn is_exec_form(rest: &str) -> bool {
    rest.starts_with('[') && serde_json::from_str::<Vec<String>>(rest.trim()).is_ok()
}

fn is_empty_list(rest: &str) -> bool {
    serde_json::from_str::<Vec<String>>(rest.trim()).is_ok_and(|list| list.is_empty())
}

/// Where `--` stands alone, after which nothing is a flag.
fn end_of_flags(rest: &str) -> Option<usize> {
    let mut at = 0;
    while rest[at..].starts_with("--") {
        let length = rest[at..].find(char::is_whitespace)?;
        if length == 2 {
            return Some(at);
        }
        at += length + rest[at + length..].len() - rest[at + length..].trim_start().len();
    }
    None
}

fn keyword_and_rest(instruction: &str) -> (&str, &str) {
    let instruction = instruction.trim_start();
    let length = instruction.find(char::is_whitespace).unwrap_or(instruction.len());
    (&instruction[..length], instruction[length..].trim_start())
}

/// The escape character that the directives at the head of the file choose.
pub(super) fn escape_of(text: &str) -> char {
    for line in text.lines() {
        let Some((name, value)) = line.strip_prefix('#').and_then(|line| line.split_once('=')) else { break };
        let name = name.trim();
        if name.eq_ignore_ascii_case("escape") {
            return if value.trim() == "`" { '`' } else { '\\' };
        }
        if !name.eq_ignore_ascii_case("syntax") && !name.eq_ignore_ascii_case("check") {
            break;
        }
    }
    '\\'
}

/// The lines of a text without their newlines.
struct Lines(Vec<Range<usize>>);

impl Lines {
    fn of(text: &str) -> Self {
        let mut start = 0;
        let mut lines = Vec::new();
        for line in text.split_inclusive('\n') {
            let length = line.strip_suffix('\n').unwrap_or(line).len();
            lines.push(start..start + length);
            start += line.len();
        }
        Self(lines)
    }

    fn get(&self, number: usize) -> Option<Range<usize>> {
        self.0.get(number).cloned()
    }
}
