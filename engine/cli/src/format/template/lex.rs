use super::TemplateError;

/// What stands between braces, in pieces.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.Name`
    Field(String),
    /// `$name`, or `$`
    Variable(String),
    /// A name, a keyword included.
    Word(String),
    Text(String),
    Number(serde_json::Number),
    Dot,
    Pipe,
    Open,
    Close,
    Declare,
    Assign,
    Comma,
}

/// A token, where it begins, and whether white space comes before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) at: usize,
    pub(super) spaced: bool,
}

/// A part of a template.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Placed>),
}

/// Splits a template at its braces.
pub(super) fn split(source: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let (mut at, mut trim) = (0, false);
    while at < source.len() {
        let (end, next) = match source[at..].find("{{") {
            Some(found) => (at + found, Some(at + found + 2)),
            None => (source.len(), None),
        };
        let mut text = &source[at..end];
        if trim {
            text = text.trim_start();
        }
        let Some(mut inside) = next else {
            push(&mut pieces, text);
            break;
        };
        let rest = &source[inside..];
        if rest.starts_with('-') && rest[1..].starts_with(char::is_whitespace) {
            text = text.trim_end();
            inside += 1;
        }
        push(&mut pieces, text);
        let (action, after, trimmed) = action(source, inside)?;
        if let Some(tokens) = action {
            pieces.push(Piece::Action(tokens));
        }
        (at, trim) = (after, trimmed);
    }
    Ok(pieces)
}

fn push(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

type Action = (Option<Vec<Placed>>, usize, bool);

/// Reads up to the closing braces: the tokens, none for a comment; where the text goes on; whether its white space
/// goes.
fn action(source: &str, start: usize) -> Result<Action, TemplateError> {
    let rest = source[start..].trim_start();
    if rest.starts_with("/*") {
        let end = rest.find("*/").ok_or_else(|| error(source, start, "unclosed comment"))?;
        let after = rest[end + 2..].trim_start();
        let trim = after.starts_with('-');
        let after = after.strip_prefix('-').unwrap_or(after);
        let after = after
            .strip_prefix("}}")
            .ok_or_else(|| error(source, start, "comment ends before closing delimiter"))?;
        return Ok((None, source.len() - after.len(), trim));
    }
    let mut tokens = Vec::new();
    let (mut at, mut spaced) = (start, false);
    loop {
        let rest = &source[at..];
        if rest.starts_with("}}") {
            return Ok((Some(tokens), at + 2, false));
        }
        if spaced && rest.starts_with("-}}") {
            return Ok((Some(tokens), at + 3, true));
        }
        let Some(first) = rest.chars().next() else { return Err(error(source, start, "unclosed action")) };
        if first.is_whitespace() {
            at += first.len_utf8();
            spaced = true;
            continue;
        }
        let (token, length) = token(rest).map_err(|what| error(source, at, &what))?;
        tokens.push(Placed { token, at, spaced });
        at += length;
        spaced = false;
    }
}

fn token(rest: &str) -> Result<(Token, usize), String> {
    let simple = [
        (":=", Token::Declare),
        ("=", Token::Assign),
        ("|", Token::Pipe),
        ("(", Token::Open),
        (")", Token::Close),
        (",", Token::Comma),
    ];
    if let Some((text, token)) = simple.into_iter().find(|(text, _)| rest.starts_with(text)) {
        return Ok((token, text.len()));
    }
    let first = rest.chars().next().unwrap_or_default();
    let name = |from: usize| {
        let end = rest[from..].find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[from..end.map_or(rest.len(), |end| from + end)]
    };
    match first {
        '.' if rest[1..].starts_with(|c: char| c.is_alphabetic() || c == '_') => {
            let name = name(1);
            Ok((Token::Field(name.to_owned()), 1 + name.len()))
        }
        '.' if !rest[1..].starts_with(|c: char| c.is_ascii_digit()) => Ok((Token::Dot, 1)),
        '$' => {
            let name = name(1);
            Ok((Token::Variable(format!("${name}")), 1 + name.len()))
        }
        '"' => quoted(rest),
        '`' => match rest[1..].find('`') {
            Some(end) => Ok((Token::Text(rest[1..=end].to_owned()), end + 2)),
            None => Err("unterminated raw quoted string".to_owned()),
        },
        '0'..='9' | '+' | '-' | '.' => number(rest),
        c if c.is_alphabetic() || c == '_' => {
            let name = name(0);
            Ok((Token::Word(name.to_owned()), name.len()))
        }
        c => Err(format!("unexpected {c:?} in command").replace('\'', "\"")),
    }
}

fn quoted(rest: &str) -> Result<(Token, usize), String> {
    let mut text = String::new();
    let mut letters = rest.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Token::Text(text), at + 1)),
            '\n' => break,
            '\\' => {
                let escaped = letters.next().map(|(_, letter)| letter);
                text.push(match escaped {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(c @ ('"' | '\\' | '\'')) => c,
                    _ => return Err(format!("invalid escape in {rest}")),
                });
            }
            other => text.push(other),
        }
    }
    Err("unterminated quoted string".to_owned())
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let end = rest[1..].find(|c: char| !c.is_alphanumeric() && c != '.').map_or(rest.len(), |end| end + 1);
    let text = &rest[..end];
    let plain = text.trim_start_matches('+');
    let integer = match plain.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => plain.parse::<i64>().ok(),
    };
    let number = integer.map(serde_json::Number::from);
    let number = number.or_else(|| plain.parse::<f64>().ok().and_then(serde_json::Number::from_f64));
    number.map(|number| (Token::Number(number), end)).ok_or_else(|| format!("bad number syntax: {text:?}"))
}

/// An error at a place, as Go tells where it is.
pub(super) fn error(source: &str, at: usize, what: &str) -> TemplateError {
    let line = source[..at.min(source.len())].matches('\n').count() + 1;
    TemplateError(format!("template: :{line}: {what}"))
}
