//! What the libraries have to say, for the binaries to show.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// The variable that asks for more, or less, in `RUST_LOG`'s language.
const VARIABLE: &str = "LIGHTER_LOG";
/// What our crates' names begin with.
const OURS: [&str; 2] = ["engine", "worker"];

/// Shows warnings of the project's crates on standard error, a line each, for the rest of the process; everything they
/// have to say with `debug`; what `LIGHTER_LOG` asks for instead where it is set. For the main function of `program`,
/// once.
pub fn to_stderr(program: &'static str, debug: bool) {
    let ours = |level| Targets::new().with_targets(OURS.map(|name| (name, level)));
    if std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        tracing_subscriber::registry().with(EnvFilter::from_env(VARIABLE)).with(lines).init();
    } else if debug {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        tracing_subscriber::registry().with(ours(LevelFilter::DEBUG)).with(lines).init();
    } else {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = lines.event_format(Line { program });
        tracing_subscriber::registry().with(ours(LevelFilter::WARN)).with(lines).init();
    }
}

/// `program: warning: what happened: why (where)`.
struct Line {
    program: &'static str,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut told = Told::default();
        event.record(&mut told);
        let level = if *event.metadata().level() == Level::ERROR { "error" } else { "warning" };
        writeln!(to, "{}: {level}: {told}", self.program)
    }
}

/// The parts of an event.
#[derive(Default)]
struct Told {
    message: String,
    causes: String,
    details: Vec<String>,
}

impl Visit for Told {
    fn record_error(&mut self, _: &Field, error: &(dyn std::error::Error + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // A transparent error repeats its cause.
            if !self.causes.ends_with(&text) {
                self.causes.push_str(": ");
                self.causes.push_str(&text);
            }
            next = error.source();
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "error" => self.causes = format!(": {value:?}"),
            name => self.details.push(format!("{name} {value:?}")),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}{}", self.message, self.causes);
        if !self.details.is_empty() {
            write!(text, " ({})", self.details.join(", "))?;
        }
        // One line, whatever is in a file's name.
        text.chars().filter(|c| !c.is_control()).try_for_each(|c| f.write_char(c))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_warning_is_one_line_with_its_causes() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .event_format(Line { program: "worker" });
        let error = crate::Error::Io { path: "/x".into(), source: io::ErrorKind::NotFound.into() };
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(error, path = %"/a\nb", "it stays");
            tracing::warn!(interface = "eth0", "still {}", "down");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "worker: warning: it stays: /x: entity not found (path /ab)\nworker: warning: still down (interface eth0)\n"
        );
    }
}
