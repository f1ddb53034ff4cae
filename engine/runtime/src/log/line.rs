use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use memchr::{memchr, memchr2, memrchr};
use serde::Deserialize;

use super::Stream;

/// One entry of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// The text, without the newline that ends it.
    pub text: Cow<'a, str>,
    /// Whether a newline ends it: not where a long line was cut, or the stream ended without one.
    pub newline: bool,
    /// Where it came from.
    pub stream: Stream,
    /// What the log's options add to every entry.
    pub attrs: BTreeMap<String, String>,
    /// When it was read, as it is written.
    time: Cow<'a, str>,
}

/// An entry as its JSON has it.
#[derive(Deserialize)]
struct Written<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    stream: Stream,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// How long a time with nine decimals is.
const LONG_TIME: usize = "2006-01-02T15:04:05.000000000Z".len();

impl<'a> Line<'a> {
    /// `None` of a line that is damaged: a crash has cut it.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        Self::parse_plain(line).or_else(|| {
            let Written { log, stream, attrs, time } = serde_json::from_slice(line).ok()?;
            let newline = log.ends_with('\n');
            let text = match log {
                Cow::Borrowed(text) => Cow::Borrowed(text.strip_suffix('\n').unwrap_or(text)),
                Cow::Owned(mut text) => {
                    text.truncate(text.len() - usize::from(newline));
                    Cow::Owned(text)
                }
            };
            Some(Self { text, newline, stream, attrs, time })
        })
    }

    /// What nearly all lines are: nothing in them is escaped but the newline at their end.
    fn parse_plain(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(br#"{"log":""#)?;
        let end = memchr2(b'"', b'\\', rest)?;
        let (text, rest) = rest.split_at(end);
        let (newline, rest) = match rest.strip_prefix(br"\n") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let rest = rest.strip_prefix(br#"","stream":"std"#)?;
        let (stream, rest) = match rest.strip_prefix(br#"out","time":""#) {
            Some(rest) => (Stream::Stdout, rest),
            None => (Stream::Stderr, rest.strip_prefix(br#"err","time":""#)?),
        };
        let time = rest.strip_suffix(br#""}"#)?;
        let (text, time) = (std::str::from_utf8(text).ok()?, std::str::from_utf8(time).ok()?);
        Some(Self { text: text.into(), newline, stream, attrs: BTreeMap::new(), time: time.into() })
    }

    /// When it was read.
    pub fn time(&self) -> Timestamp {
        self.time.parse().unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// When it was read, with nine decimals.
    pub fn long_time(&self) -> Cow<'_, str> {
        if self.time.len() == LONG_TIME {
            Cow::Borrowed(&self.time)
        } else {
            format!("{:.9}", self.time()).into()
        }
    }
}

/// Entries that were read together, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Takes all whole lines off the front of `bytes`.
    pub(super) fn take(bytes: &mut Vec<u8>) -> Self {
        let end = memrchr(b'\n', bytes).map_or(0, |end| end + 1);
        let rest = bytes.split_off(end);
        Self(std::mem::replace(bytes, rest))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes they have in the file.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The entries. A damaged line is passed over.
    pub fn iter(&self) -> impl Iterator<Item = Line<'_>> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            loop {
                let end = memchr(b'\n', rest)?;
                let line = &rest[..end];
                rest = &rest[end + 1..];
                if let Some(line) = Line::parse(line) {
                    return Some(line);
                }
            }
        })
    }
}
