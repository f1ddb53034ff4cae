//! Go's functions and Docker's.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::print::{number_text, quoted, text};

const NAMES: [&str; 26] = [
    "and", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper", "urlquery",
];

/// What became of a call.
#[derive(Debug)]
pub(super) enum Called {
    Value(Value),
    /// The function failed.
    Failed(String),
    /// It was given too few arguments, or ones that it does not take.
    Arguments(String),
}

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether `if` takes it for true.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// Functions leave column headers as they are, but for those that make text.
pub(super) fn call_on_header(name: &str, mut arguments: Vec<Value>) -> Called {
    match name {
        "json" | "lower" | "upper" | "title" | "split" | "join" | "pad" | "truncate"
            if !arguments.is_empty() =>
        {
            Called::Value(arguments.swap_remove(0))
        }
        _ => call(name, arguments),
    }
}

pub(super) fn call(name: &str, arguments: Vec<Value>) -> Called {
    let result = match name {
        "print" => Ok(print_all(&arguments).into()),
        "println" => Ok(line(&arguments).into()),
        "printf" => printf(&arguments),
        "and" | "or" => Ok(arguments.into_iter().next().unwrap_or_default()),
        "not" => one(name, &arguments).map(|value| (!truth(value)).into()),
        "len" => one(name, &arguments).and_then(length),
        "index" => index(&arguments),
        "slice" => slice(&arguments),
        "eq" => equal(&arguments),
        "ne" => equal(&arguments).map(|equal| (equal == Value::Bool(false)).into()),
        "lt" | "le" | "gt" | "ge" => compare(name, &arguments),
        "html" => Ok(html(&print_all(&arguments)).into()),
        "js" => Ok(javascript(&print_all(&arguments)).into()),
        "urlquery" => Ok(url(&print_all(&arguments)).into()),
        _ => text_function(name, &arguments),
    };
    result.map_or_else(|failed| failed, Called::Value)
}

type Outcome = Result<Value, Called>;

fn failed(what: impl Into<String>) -> Called {
    Called::Failed(what.into())
}

fn one<'a>(name: &str, arguments: &'a [Value]) -> Result<&'a Value, Called> {
    take(name, arguments, 1).map(|arguments| &arguments[0])
}

fn take<'a>(name: &str, arguments: &'a [Value], count: usize) -> Result<&'a [Value], Called> {
    if arguments.len() == count {
        return Ok(arguments);
    }
    Err(Called::Arguments(format!("wrong number of args for {name}: want {count} got {}", arguments.len())))
}

/// Docker's functions.
fn text_function(name: &str, arguments: &[Value]) -> Outcome {
    Ok(match name {
        "json" => one(name, arguments)?.to_string().into(),
        "lower" => text(one(name, arguments)?).to_lowercase().into(),
        "upper" => text(one(name, arguments)?).to_uppercase().into(),
        "title" => title(&text(one(name, arguments)?)).into(),
        "split" => {
            let arguments = take(name, arguments, 2)?;
            let (whole, separator) = (text(&arguments[0]), text(&arguments[1]));
            whole.split(separator.as_str()).collect::<Vec<_>>().into()
        }
        "join" => {
            let arguments = take(name, arguments, 2)?;
            let items = arguments[0].as_array().map(Vec::as_slice).unwrap_or_default();
            let items: Vec<String> = items.iter().map(text).collect();
            items.join(&text(&arguments[1])).into()
        }
        "pad" => {
            let arguments = take(name, arguments, 3)?;
            let spaces =
                |value: &Value| " ".repeat(value.as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0));
            let whole = text(&arguments[0]);
            if whole.is_empty() {
                return Ok(whole.into());
            }
            format!("{}{whole}{}", spaces(&arguments[1]), spaces(&arguments[2])).into()
        }
        "truncate" => {
            let arguments = take(name, arguments, 2)?;
            let length = arguments[1].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            text(&arguments[0]).chars().take(length).collect::<String>().into()
        }
        _ => return Err(Called::Arguments(format!("function {name:?} not defined"))),
    })
}

fn title(whole: &str) -> String {
    let mut start = true;
    let letters = whole.chars().map(|letter| {
        let raised = if start { letter.to_ascii_uppercase() } else { letter };
        start = !letter.is_alphanumeric() && letter != '_' && letter != '\'';
        raised
    });
    letters.collect()
}

/// Go's `fmt.Sprint`: spaces between operands of which neither is text.
fn print_all(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (n, argument) in arguments.iter().enumerate() {
        if n > 0 && !argument.is_string() && !arguments[n - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&text(argument));
    }
    out
}

fn line(arguments: &[Value]) -> String {
    arguments.iter().map(text).collect::<Vec<_>>().join(" ") + "\n"
}

fn length(value: &Value) -> Outcome {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(members) => Ok(members.len().into()),
        // What Docker has as an empty list is often null in JSON.
        Value::Null => Ok(0.into()),
        other => Err(failed(format!("len of type {}", kind(other)))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn index(arguments: &[Value]) -> Outcome {
    let Some((whole, keys)) = arguments.split_first() else {
        return Err(Called::Arguments("wrong number of args for index: want at least 1 got 0".to_owned()));
    };
    let mut value = whole.clone();
    for key in keys {
        value = match (value, key) {
            (Value::Array(items), Value::Number(number)) => {
                let at = number.as_i64().unwrap_or(-1);
                let found = usize::try_from(at).ok().and_then(|at| items.into_iter().nth(at));
                found.ok_or_else(|| failed(format!("index out of range: {at}")))?
            }
            (Value::Object(mut members), Value::String(key)) => members.swap_remove(key).unwrap_or_default(),
            (Value::String(text), Value::Number(number)) => {
                let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
                let byte = at.and_then(|at| text.as_bytes().get(at).copied());
                byte.ok_or_else(|| failed(format!("index out of range: {number}")))?.into()
            }
            (Value::Null, _) => return Err(failed("index of untyped nil")),
            (Value::Array(_) | Value::String(_), key) => {
                return Err(failed(format!("cannot index slice/array with type {}", kind(key))));
            }
            (Value::Object(_), key) => {
                return Err(failed(format!("value has type {}; should be string", kind(key))));
            }
            (other, _) => return Err(failed(format!("can't index item of type {}", kind(&other)))),
        };
    }
    Ok(value)
}

fn slice(arguments: &[Value]) -> Outcome {
    let Some((whole, bounds)) = arguments.split_first() else {
        return Err(Called::Arguments("wrong number of args for slice: want at least 1 got 0".to_owned()));
    };
    let length = match whole {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => return Err(failed(format!("can't slice item of type {}", kind(other)))),
    };
    let bound = |n: usize, default: usize| match bounds.get(n) {
        None => Ok(default),
        Some(value) => {
            let bound = value.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at <= length);
            bound.ok_or_else(|| failed(format!("index out of range: {}", text(value))))
        }
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(failed(format!("invalid slice index: {from} > {to}")));
    }
    Ok(match whole {
        Value::Array(items) => items[from..to].to_vec().into(),
        other => String::from_utf8_lossy(&text(other).as_bytes()[from..to]).into_owned().into(),
    })
}

/// Whether the first equals any of the others.
fn equal(arguments: &[Value]) -> Outcome {
    let [first, others @ ..] = arguments else {
        return Err(Called::Arguments("wrong number of args for eq: want at least 1 got 0".to_owned()));
    };
    if others.is_empty() {
        return Err(failed("missing argument for comparison"));
    }
    let same = |other: &Value| match (first, other) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    };
    for other in others {
        let comparable = kind(first) == kind(other)
            || first.is_null()
            || other.is_null()
            || (first.is_number() && other.is_number());
        if !comparable {
            return Err(failed("incompatible types for comparison"));
        }
    }
    Ok(others.iter().any(same).into())
}

fn compare(name: &str, arguments: &[Value]) -> Outcome {
    let arguments = take(name, arguments, 2)?;
    let order = match (&arguments[0], &arguments[1]) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => return Err(failed("incompatible types for comparison")),
    };
    Ok(match name {
        "lt" => order == Some(Ordering::Less),
        "le" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        "gt" => order == Some(Ordering::Greater),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    }
    .into())
}

fn printf(arguments: &[Value]) -> Outcome {
    let [Value::String(format), rest @ ..] = arguments else {
        return Err(Called::Arguments("wrong type for value; expected string".to_owned()));
    };
    let (mut out, mut rest) = (String::new(), rest.iter());
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = letters.next_if(|c| "-+ #0123456789.".contains(*c)) {
            flags.push(flag);
        }
        let Some(verb) = letters.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match rest.next() {
            Some(value) => out.push_str(&verb_text(verb, &flags, value)),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    let extra: Vec<String> = rest.map(|value| format!("{}={}", kind(value), text(value))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out.into())
}

/// One verb of `printf` with its flags, width and precision.
fn verb_text(verb: char, flags: &str, value: &Value) -> String {
    let marks: String = flags.chars().take_while(|c| "-+ #0".contains(*c)).collect();
    let (width, precision) = match flags[marks.len()..].split_once('.') {
        Some((width, precision)) => (width, Some(precision.parse().unwrap_or(0))),
        None => (&flags[marks.len()..], None),
    };
    let body = match (verb, value) {
        ('s' | 'v', _) => {
            let whole = text(value);
            match precision {
                Some(length) if verb == 's' => whole.chars().take(length).collect(),
                _ => whole,
            }
        }
        ('q', Value::String(text)) => quoted(text),
        ('d', Value::Number(number)) if !number.is_f64() => signed(number_text(number), &marks),
        ('x', Value::Number(number)) => format!("{:x}", number.as_i64().unwrap_or(0)),
        ('x', Value::String(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('t', Value::Bool(on)) => on.to_string(),
        ('T', _) => kind(value).to_owned(),
        ('f', Value::Number(number)) => signed(fixed(number, precision.unwrap_or(6)), &marks),
        _ => format!("%!{verb}({}={})", kind(value), text(value)),
    };
    let width = width.parse::<usize>().unwrap_or(0);
    let missing = " ".repeat(width.saturating_sub(body.chars().count()));
    if marks.contains('-') {
        body + &missing
    } else if marks.contains('0') && value.is_number() {
        let (sign, digits) = body.split_at(usize::from(body.starts_with(['-', '+'])));
        format!("{sign}{}{digits}", missing.replace(' ', "0"))
    } else {
        missing + &body
    }
}

fn fixed(number: &Number, precision: usize) -> String {
    format!("{:.precision$}", number.as_f64().unwrap_or_default())
}

fn signed(body: String, marks: &str) -> String {
    if marks.contains('+') && !body.starts_with('-') { format!("+{body}") } else { body }
}

fn html(whole: &str) -> String {
    let mut out = String::new();
    for letter in whole.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

fn javascript(whole: &str) -> String {
    let mut out = String::new();
    for letter in whole.chars() {
        match letter {
            '\\' | '\'' | '"' => out.extend(['\\', letter]),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(letter))),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            other => out.push(other),
        }
    }
    out
}

fn url(whole: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(whole, KEPT).to_string().replace("%20", "+")
}
