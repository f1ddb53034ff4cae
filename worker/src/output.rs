#![allow(missing_docs, reason = "temporary")]
use crate::event::{Event, Reporter};
use std::io::Write;
use std::sync::Mutex;
#[derive(Debug)]
pub struct PlainReporter<W>(Mutex<W>);
impl<W: Write + Send> PlainReporter<W> {
    pub fn new(w: W) -> Self {
        Self(Mutex::new(w))
    }
}
impl<W: Write + Send> Reporter for PlainReporter<W> {
    fn report(&self, event: Event) {
        let mut w = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = match event {
            Event::Output { job, source, bytes, .. } => {
                writeln!(w, "[{job} | {source}] {}", String::from_utf8_lossy(&bytes).trim_end())
            }
            other => writeln!(w, "{other:?}"),
        };
    }
}
#[derive(Debug)]
pub struct TerminalReporter(PlainReporter<std::io::Stdout>);
impl TerminalReporter {
    pub fn new() -> Self {
        Self(PlainReporter::new(std::io::stdout()))
    }
}
impl Reporter for TerminalReporter {
    fn report(&self, event: Event) {
        self.0.report(event)
    }
}
