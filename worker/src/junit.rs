//! JUnit XML reports, in the dialects that test runners write: any nesting of `testsuites` and `testsuite`, a
//! `testcase` with `failure`, `error` or `skipped` in it.

use std::io::{BufReader, Read};

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::event::TestTotals;

/// The largest report, in bytes.
const REPORT_MAX: u64 = 256 << 20;
/// How deep elements may nest.
const DEPTH_MAX: usize = 64;

/// What a report says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The counts.
    pub totals: TestTotals,
    /// The names of the tests that failed.
    pub failed: Vec<String>,
}

/// A report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JunitError {
    /// It is not well-formed.
    #[error("malformed XML at byte {at}")]
    Xml {
        /// Where.
        at: u64,
        /// Why.
        source: quick_xml::Error,
    },
    /// It is larger or deeper than a report can be.
    #[error("the report is too large: over {REPORT_MAX} bytes or {DEPTH_MAX} nested elements")]
    TooLarge,
}

/// Reads a report.
pub fn parse(report: impl Read) -> Result<Report, JunitError> {
    let mut reader = Reader::from_reader(BufReader::new(report.take(REPORT_MAX + 1)));
    let mut buffer = Vec::new();
    let mut state = State::default();
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer);
        let at = reader.buffer_position();
        if at > REPORT_MAX || state.depth > DEPTH_MAX {
            return Err(JunitError::TooLarge);
        }
        match event.map_err(|source| JunitError::Xml { at, source })? {
            Event::Start(element) => {
                state.depth += 1;
                state.open(&element);
            }
            Event::Empty(element) => {
                state.open(&element);
                state.close(element.name().as_ref());
            }
            Event::End(element) => {
                state.depth = state.depth.saturating_sub(1);
                state.close(element.name().as_ref());
            }
            Event::Eof => return Ok(state.report),
            _ => {}
        }
    }
}

#[derive(Default)]
struct State {
    depth: usize,
    /// The name of the test that is open.
    test: Option<String>,
    failed: bool,
    skipped: bool,
    report: Report,
}

impl State {
    fn open(&mut self, element: &quick_xml::events::BytesStart<'_>) {
        match element.name().as_ref() {
            b"testcase" => {
                let attribute = |wanted: &[u8]| {
                    let found = element.attributes().flatten().find(|a| a.key.as_ref() == wanted);
                    found.map(|a| String::from_utf8_lossy(&a.value).into_owned()).unwrap_or_default()
                };
                let (class, name) = (attribute(b"classname"), attribute(b"name"));
                self.test = Some(if class.is_empty() { name } else { format!("{class}.{name}") });
                (self.failed, self.skipped) = (false, false);
            }
            b"failure" | b"error" if self.test.is_some() => self.failed = true,
            b"skipped" if self.test.is_some() => self.skipped = true,
            _ => {}
        }
    }

    fn close(&mut self, name: &[u8]) {
        if name != b"testcase" {
            return;
        }
        let Some(test) = self.test.take() else { return };
        let totals = &mut self.report.totals;
        totals.tests += 1;
        if self.failed {
            totals.failures += 1;
            self.report.failed.push(test);
        } else if self.skipped {
            totals.skipped += 1;
        }
    }
}

/// Adds the counts of one report to another's.
pub fn add(to: &mut TestTotals, more: TestTotals) {
    to.tests += more.tests;
    to.failures += more.failures;
    to.skipped += more.skipped;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_pytest_writes() {
        let xml = r#"<?xml version="1.0"?><testsuites><testsuite name="pytest" tests="3">
            <testcase classname="tests.a" name="one" time="0.1"/>
            <testcase classname="tests.a" name="two"><failure message="no">trace &lt;x&gt;</failure></testcase>
            <testcase classname="tests.a" name="three"><skipped/></testcase></testsuite></testsuites>"#;
        let report = parse(xml.as_bytes()).unwrap();
        assert_eq!(report.totals, TestTotals { tests: 3, failures: 1, skipped: 1 });
        assert_eq!(report.failed, ["tests.a.two"]);
    }

    #[test]
    fn a_failure_with_an_error_counts_once() {
        let xml = "<testsuite><testcase name='a'><failure/><error/></testcase></testsuite>";
        assert_eq!(parse(xml.as_bytes()).unwrap().totals, TestTotals { tests: 1, failures: 1, skipped: 0 });
    }

    #[test]
    fn hostile_reports_are_errors() {
        assert!(matches!(parse("<a><b></a>".as_bytes()), Err(JunitError::Xml { .. })));
        assert!(matches!(parse("<a>".repeat(100).as_bytes()), Err(JunitError::TooLarge)));
    }
}
