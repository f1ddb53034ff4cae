//! The words of `ENV`, `LABEL` and `ARG`, and lines that go on.

/// Whether a line ends in the escape character, perhaps with blanks after it (BuildKit's `reDirective`).
pub(super) fn continues(line: &str, escape: char) -> bool {
    line.trim_end_matches([' ', '\t', '\r']).ends_with(escape)
}

/// Joins the lines of an instruction: continuations go, and with them comments and empty lines between.
pub(super) fn join_lines(text: &str, escape: char) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut first = true;
    for line in text.split('\n') {
        let trimmed = line.trim();
        if !first && (trimmed.is_empty() || trimmed.starts_with('#')) {
            continue;
        }
        first = false;
        if continues(line, escape) {
            let end = line.trim_end_matches([' ', '\t', '\r']);
            joined.push_str(&end[..end.len() - escape.len_utf8()]);
        } else {
            joined.push_str(line.trim_end_matches('\r'));
            break;
        }
    }
    joined
}

/// Splits at blanks outside of quotes; quotes and escapes stay (BuildKit's `parseWords`).
pub(super) fn split_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '\'' || c == '"' => quote = Some(c),
            Some(q) if c == q => quote = None,
            _ => {}
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What `ENV` and `LABEL` set: `NAME=value …` or the old `NAME value`. The error is Docker's text.
pub(super) fn pairs(keyword: &str, text: &str, escape: char) -> Result<Vec<(String, String)>, String> {
    let words = split_words(text, escape);
    let Some(first) = words.first() else {
        return Err(format!("{keyword} requires at least one argument"));
    };
    if !first.contains('=') {
        let text = text.trim();
        let Some((name, value)) = text.split_once(char::is_whitespace) else {
            return Err(format!("{keyword} must have two arguments"));
        };
        return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some(("", _)) => Err(format!("{keyword} names can not be blank")),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("syntax error - can't find = in {word:?}. Must be of the form: name=value")),
    };
    words.iter().map(pair).collect()
}
