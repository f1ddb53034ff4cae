use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::response::Response;
use engine::runtime::log::Lines;
use engine::{Container, Logs};
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use crate::act::Daemon;
use crate::error::ApiError;
use crate::parse::Call;
use crate::render;
use crate::stream::{HEADER, Wanted, content_type, header};

/// What Go leaves as it is in a query.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a client wants of a log.
#[derive(Debug, Clone, Copy)]
struct Selection {
    wanted: Wanted,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
    details: bool,
    framed: bool,
}

pub(super) async fn logs(daemon: &Daemon, call: Call, id: &str) -> Result<Response, ApiError> {
    let query = &call.query;
    let wanted = Wanted { stdout: query.flag("stdout"), stderr: query.flag("stderr") };
    if !wanted.stdout && !wanted.stderr {
        let text = "Bad parameters: you must choose at least one stream";
        return Err(ApiError::Invalid(text.to_owned()));
    }
    let container = daemon.engine().container(id).await?;
    if !container.config.logging.is_kept() {
        let text = "configured logging driver does not support reading";
        return Err(ApiError::NotImplemented(text.to_owned()));
    }
    let terminal = container.config.terminal;
    let selection = Selection {
        wanted,
        since: query.time("since")?,
        until: query.time("until")?,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
        framed: !terminal,
    };
    // Docker takes what is no number, "all" for one, for all.
    let tail = query.text("tail").and_then(|text| text.parse().ok());
    let log = daemon.engine().logs(&container, tail, query.flag("follow")).await?;
    // The head goes out at once, though there may be nothing to tell for a long time.
    let body = Body::from_stream(unfold((log, true), move |(log, first)| async move {
        if first {
            return Some((Ok::<_, engine::Error>(Bytes::new()), (log, false)));
        }
        selection.next(log).await.map(|(bytes, log)| (bytes, (log, false)))
    }));
    Ok(render::stream(content_type(terminal, call.version), body))
}

/// What a container has written so far, for who attaches to it.
pub(super) async fn earlier(
    daemon: &Daemon,
    container: &Container,
    wanted: Wanted,
) -> Result<BoxStream<'static, Bytes>, ApiError> {
    if !container.config.logging.is_kept() {
        return Ok(futures::stream::empty().boxed());
    }
    let framed = !container.config.terminal;
    let selection = Selection { wanted, since: None, until: None, timestamps: false, details: false, framed };
    let log = daemon.engine().logs(container, None, false).await?;
    let told = unfold(log, move |log| async move {
        match selection.next(log).await? {
            (Ok(bytes), log) => Some((bytes, log)),
            (Err(error), _) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "cannot tell all of a container's earlier output");
                None
            }
        }
    });
    Ok(told.boxed())
}

impl Selection {
    async fn next(&self, mut log: Logs) -> Option<(Result<Bytes, engine::Error>, Logs)> {
        loop {
            let lines = match log.next().await {
                Ok(lines) => lines?,
                Err(error) => return Some((Err(error), log)),
            };
            match self.render(&lines) {
                (bytes, _) if !bytes.is_empty() => return Some((Ok(bytes), log)),
                (_, true) => return None,
                _ => {}
            }
        }
    }

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
