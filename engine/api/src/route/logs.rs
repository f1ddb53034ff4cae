use axum::body::{Body, Bytes};
use axum::response::Response;
use engine::Logs;
use engine::runtime::log::Entry;
use futures::stream::unfold;
use jiff::Timestamp;

use crate::act::Daemon;
use crate::error::ApiError;
use crate::parse::Call;
use crate::render;
use crate::stream::{Wanted, content_type, header};

/// What a client wants of a log.
#[derive(Debug, Clone, Copy)]
struct Selection {
    wanted: Wanted,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    timestamps: bool,
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
    let terminal = container.config.terminal;
    let selection = Selection {
        wanted,
        since: query.time("since")?,
        until: query.time("until")?,
        timestamps: query.flag("timestamps"),
        framed: !terminal,
    };
    let mut log = daemon.engine().logs(&container, query.flag("follow")).await?;
    let first = match query.text("tail") {
        None | Some("all") => Vec::new(),
        // Docker takes what is no number for all.
        Some(text) => match text.parse() {
            Ok(count) => log.last(count)?,
            Err(_) => Vec::new(),
        },
    };
    let first = selection.render(&first).0;
    let body = Body::from_stream(unfold((log, Some(first)), move |(log, first)| async move {
        match first {
            Some(first) => Some((Ok::<_, engine::Error>(first), (log, None))),
            None => selection.next(log).await,
        }
    }));
    Ok(render::stream(content_type(terminal, call.version), body))
}

impl Selection {
    async fn next(&self, mut log: Logs) -> Option<(Result<Bytes, engine::Error>, (Logs, Option<Bytes>))> {
        loop {
            let entries = match log.next().await {
                Ok(entries) => entries?,
                Err(error) => return Some((Err(error), (log, None))),
            };
            match self.render(&entries) {
                (bytes, _) if !bytes.is_empty() => return Some((Ok(bytes), (log, None))),
                (_, true) => return None,
                _ => {}
            }
        }
    }

    /// The entries that are wanted, and whether all later ones are not.
    fn render(&self, entries: &[Entry]) -> (Bytes, bool) {
        let mut out = Vec::new();
        for entry in entries {
            if self.until.is_some_and(|until| entry.time > until) {
                return (out.into(), true);
            }
            if !self.wanted.has(entry.stream) || self.since.is_some_and(|since| entry.time < since) {
                continue;
            }
            let time = if self.timestamps { format!("{:.9} ", entry.time) } else { String::new() };
            if self.framed {
                out.extend_from_slice(&header(entry.stream, time.len() + entry.log.len()));
            }
            out.extend_from_slice(time.as_bytes());
            out.extend_from_slice(entry.log.as_bytes());
        }
        (out.into(), false)
    }
}

#[cfg(test)]
mod tests {
    use engine::runtime::log::Stream;

    use super::*;

    #[test]
    fn what_is_wanted_is_chosen() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let entry = |second, stream, log: &str| Entry { log: log.to_owned(), stream, time: at(second) };
        let entries = [
            entry(1, Stream::Stdout, "early\n"),
            entry(2, Stream::Stderr, "error\n"),
            entry(3, Stream::Stdout, "in time\n"),
            entry(9, Stream::Stdout, "late\n"),
        ];
        let selection = Selection {
            wanted: Wanted { stdout: true, stderr: false },
            since: Some(at(2)),
            until: Some(at(4)),
            timestamps: true,
            framed: false,
        };
        let (text, over) = selection.render(&entries);
        assert_eq!((&text[..], over), (&b"1970-01-01T00:00:03.000000000Z in time\n"[..], true));
    }
}
