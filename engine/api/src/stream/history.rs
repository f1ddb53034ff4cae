//! What a container's log has, as a client wants it.

use std::collections::BTreeMap;

use axum::body::Bytes;
use engine::runtime::log::Lines;
use engine::{Error, Logs};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use super::{HEADER, Wanted, header};

/// What Go leaves as it is in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a client wants of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection {
    pub(crate) wanted: Wanted,
    pub(crate) since: Option<Timestamp>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) timestamps: bool,
    pub(crate) details: bool,
    pub(crate) framed: bool,
}

/// A log that is told from where it stands.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) log: Logs,
    pub(crate) selection: Selection,
}

impl History {
    /// The next piece; `None` after the last.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let lines = match self.log.next().await {
                Ok(lines) => lines?,
                Err(error) => return Some(Err(error)),
            };
            match self.selection.render(&lines) {
                (bytes, _) if !bytes.is_empty() => return Some(Ok(bytes)),
                (_, true) => return None,
                _ => {}
            }
        }
    }
}

impl Selection {
    /// The entries that are wanted, and whether all later ones are not.
    fn render(&self, lines: &Lines) -> (Bytes, bool) {
        let mut out = Vec::with_capacity(lines.len());
        for line in lines.iter() {
            if self.until.is_some_and(|until| line.time() > until) {
                return (out.into(), true);
            }
            if !self.wanted.has(line.stream) || self.since.is_some_and(|since| line.time() < since) {
                continue;
            }
            let head = out.len();
            if self.framed {
                out.extend_from_slice(&[0; HEADER]);
            }
            if self.timestamps {
                out.extend_from_slice(line.long_time().as_bytes());
                out.push(b' ');
            }
            if self.details {
                details(&line.attrs, &mut out);
            }
            out.extend_from_slice(line.text.as_bytes());
            if line.newline {
                out.push(b'\n');
            }
            if self.framed {
                let length = out.len() - head - HEADER;
                out[head..head + HEADER].copy_from_slice(&header(line.stream, length));
            }
        }
        (out.into(), false)
    }
}

/// `name=value,name=value ` in order; the space alone if there are none.
fn details(attrs: &BTreeMap<String, String>, out: &mut Vec<u8>) {
    for (n, (name, value)) in attrs.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let encode = |text| percent_encoding::utf8_percent_encode(text, QUERY);
        out.extend_from_slice(format!("{comma}{}={}", encode(name), encode(value)).as_bytes());
    }
    out.push(b' ');
}

#[cfg(test)]
mod tests {
    use engine::runtime::log::Reader;

    use super::*;

    #[test]
    fn what_is_wanted_is_chosen() {
        let line = |second, stream, log: &str, attrs: &str| {
            format!(
                "{{\"log\":\"{log}\\n\",\"stream\":\"{stream}\",{attrs}\"time\":\"1970-01-01T00:00:0{second}Z\"}}\n"
            )
        };
        let text = [
            line(1, "stdout", "early", ""),
            line(2, "stderr", "error", ""),
            line(3, "stdout", "in time", "\"attrs\":{\"a\":\"b c\",\"d\":\"\"},"),
            line(9, "stdout", "late", ""),
        ];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.concat()).unwrap();
        let lines = Reader::open(file.path()).unwrap().read_more().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let selection = Selection {
            wanted: Wanted { stdout: true, stderr: false },
            since: Some(at(2)),
            until: Some(at(4)),
            timestamps: true,
            details: true,
            framed: false,
        };
        let (text, over) = selection.render(&lines);
        assert_eq!((&text[..], over), (&b"1970-01-01T00:00:03.000000000Z a=b%20c,d= in time\n"[..], true));
        let framed = Selection { timestamps: false, details: false, framed: true, until: None, ..selection };
        let (text, _) = framed.render(&lines);
        assert_eq!(&text[..16], b"\x01\0\0\0\0\0\0\x08in time\n");
    }
}
