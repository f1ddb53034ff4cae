//! JUnit XML reports, in the dialects that test runners write.
//!
//! There is no standard. Common to all (Ant's `junitreport`, surefire, pytest, go-junit-report, nextest, jest-junit,
//! gtest) is any nesting of `testsuites` and `testsuite`, and a `testcase` with `failure`, `error` or `skipped` in it.
//! The counts come from the test cases: the suites' own attributes differ in what they count.

use std::fmt;
use std::io::{self, Read};

use engine::types::ErrorKind;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::event::TestTotals;

/// The largest report, in bytes; it is held in memory.
const REPORT_MAX: u64 = 64 << 20;
/// How deep elements may nest.
const DEPTH_MAX: usize = 64;
/// How many failed tests are named; the totals count all.
const FAILED_MAX: usize = 1000;
/// The longest name or message of a failed test that is kept, in characters.
const TEXT_MAX: usize = 500;

/// What a report says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The counts.
    pub totals: TestTotals,
    /// The tests that failed or broke, at most a thousand.
    pub failed: Vec<FailedTest>,
}

/// A test that failed or broke. It shows as `name: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedTest {
    /// Its name, after its class or module.
    pub name: String,
    /// The first line of what it says; empty if it says nothing.
    pub message: String,
}

impl fmt::Display for FailedTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.message.is_empty() { "" } else { ": " };
        write!(f, "{}{separator}{}", self.name, self.message)
    }
}

/// A report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JunitError {
    /// The file could not be read.
    #[error("failed to read the report")]
    Read(#[source] io::Error),
    /// It is not well-formed.
    #[error("malformed XML at byte {at}")]
    Xml {
        /// Where.
        at: u64,
        /// Why.
        source: quick_xml::Error,
    },
    /// It ends before its elements do.
    #[error("the report is cut off")]
    Truncated,
    /// It is larger than a report may be.
    #[error("the report has more than {REPORT_MAX} bytes")]
    TooLarge,
    /// Its elements nest deeper than those of a report.
    #[error("the report nests elements more than {DEPTH_MAX} deep")]
    TooDeep,
    /// It declares a document type. No test runner does, but those who attack XML parsers do: entities that multiply,
    /// or that name the host's files.
    #[error("the report declares a document type, which is not allowed")]
    DocumentType,
    /// It is about something else.
    #[error("not a JUnit report: its outermost element is <{0}>")]
    NotJunit(String),
}

impl JunitError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(_) => ErrorKind::Internal,
            _ => ErrorKind::InvalidArgument,
        }
    }
}

/// Reads a report. Bytes that are not UTF-8, which tests print and runners pass on, do not spoil it.
pub fn parse(report: impl Read) -> Result<Report, JunitError> {
    let mut bytes = Vec::new();
    report.take(REPORT_MAX + 1).read_to_end(&mut bytes).map_err(JunitError::Read)?;
    if bytes.len() as u64 > REPORT_MAX {
        return Err(JunitError::TooLarge);
    }
    parse_text(&String::from_utf8_lossy(&bytes))
}

/// Adds the counts of one report to another's.
pub fn add(to: &mut TestTotals, more: TestTotals) {
    to.tests += more.tests;
    to.failures += more.failures;
    to.skipped += more.skipped;
}

fn parse_text(text: &str) -> Result<Report, JunitError> {
    let mut reader = Reader::from_str(text);
    let mut state = State::default();
    loop {
        let event = reader.read_event();
        let at = reader.buffer_position();
        match event.map_err(|source| JunitError::Xml { at, source })? {
            Event::Start(element) => {
                state.open(&element)?;
                state.depth += 1;
                if state.depth > DEPTH_MAX {
                    return Err(JunitError::TooDeep);
                }
            }
            Event::Empty(element) => {
                state.open(&element)?;
                state.close(element.local_name().as_ref());
            }
            Event::End(element) => {
                state.depth = state.depth.saturating_sub(1);
                state.close(element.local_name().as_ref());
            }
            Event::Text(text) => state.text(&text),
            Event::CData(text) => state.text(&text),
            // Of the entities only XML's own five and characters by number exist without a document type.
            Event::GeneralRef(name) => state.text(&entity(&name)),
            Event::DocType(_) => return Err(JunitError::DocumentType),
            Event::Eof if state.depth > 0 || !state.begun => return Err(JunitError::Truncated),
            Event::Eof => return Ok(state.report),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
}

fn entity(name: &str) -> String {
    let reference = format!("&{name};");
    quick_xml::escape::unescape(&reference).map(std::borrow::Cow::into_owned).unwrap_or_default()
}

#[derive(Default)]
struct State {
    depth: usize,
    /// The outermost element was seen.
    begun: bool,
    test: Option<Test>,
    /// What a failure says is being read.
    in_failure: bool,
    report: Report,
}

/// The test case that is open.
#[derive(Default)]
struct Test {
    name: String,
    failed: bool,
    skipped: bool,
    /// Of the first failure that has one.
    message: String,
    /// The beginning of what the first failure contains.
    text: String,
}

impl State {
    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), JunitError> {
        let name = element.local_name();
        let name: &str = name.as_ref();
        if !std::mem::replace(&mut self.begun, true)
            && !matches!(name, "testsuites" | "testsuite" | "testcase")
        {
            return Err(JunitError::NotJunit(name.chars().take(TEXT_MAX).collect()));
        }
        match (name, &mut self.test) {
            ("testcase", test) => {
                // gtest's word for a test that is disabled.
                let skipped = attribute(element, "status") == "notrun";
                *test = Some(Test { name: test_name(element), skipped, ..Test::default() });
            }
            ("failure" | "error", Some(test)) => {
                test.failed = true;
                self.in_failure = test.text.trim().is_empty();
                if test.message.is_empty() {
                    test.message = first_line(&attribute(element, "message"));
                }
            }
            ("skipped", Some(test)) => test.skipped = true,
            _ => {}
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if let Some(test) = self.test.as_mut().filter(|test| self.in_failure && test.text.len() < TEXT_MAX) {
            // Bytes enough for as many characters, of which the first line is taken later.
            let start = if test.text.is_empty() { text.trim_start() } else { text };
            test.text.extend(start.chars().take(TEXT_MAX));
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "failure" | "error" => self.in_failure = false,
            "testcase" => {
                if let Some(test) = self.test.take() {
                    self.ended(test);
                }
            }
            _ => {}
        }
    }

    fn ended(&mut self, test: Test) {
        let Report { totals, failed } = &mut self.report;
        totals.tests += 1;
        if test.failed {
            totals.failures += 1;
            if failed.len() < FAILED_MAX {
                let text = first_line(&test.text);
                let message = if test.message.is_empty() { text } else { test.message };
                failed.push(FailedTest { name: test.name, message });
            }
        } else if test.skipped {
            totals.skipped += 1;
        }
    }
}

/// The class and the name, unless the name begins with the class (jest).
fn test_name(element: &BytesStart<'_>) -> String {
    let (class, name) = (attribute(element, "classname"), attribute(element, "name"));
    let name = if class.is_empty() || name.starts_with(&class) { name } else { format!("{class}.{name}") };
    first_line(&name)
}

/// An attribute's value, as it stands if it has unknown entities; empty if it is absent.
fn attribute(element: &BytesStart<'_>, wanted: &str) -> String {
    let found = element.attributes().flatten().find(|attribute| attribute.key.as_ref() == wanted);
    let Some(found) = found else { return String::new() };
    match quick_xml::escape::unescape(&found.value) {
        Ok(value) => value.into_owned(),
        Err(_) => found.value.into_owned(),
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(xml: &str, totals: [u64; 3], failed: &[&str]) {
        let report = parse(xml.as_bytes()).unwrap();
        let TestTotals { tests, failures, skipped } = report.totals;
        assert_eq!([tests, failures, skipped], totals);
        assert_eq!(report.failed.iter().map(ToString::to_string).collect::<Vec<_>>(), failed);
    }

    #[test]
    fn pytest() {
        check(
            r#"<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests"><testsuite name="pytest"
            errors="1" failures="1" skipped="1" tests="4" time="0.034"><testcase classname="tests.test_a.TestA"
            name="test_one" time="0.001" /><testcase classname="tests.test_a" name="test_two[&lt;x&gt;]"><failure
            message="assert 1 == 2&#10;  +where 1 = f()">def test_two(): ...</failure></testcase><testcase
            classname="tests.test_a" name="test_three"><skipped type="pytest.skip" message="no">x</skipped></testcase>
            <testcase classname="tests.test_b" name="test_four"><error message="failed on setup">e</error>
            <system-out><![CDATA[<failure/>]]></system-out></testcase></testsuite></testsuites>"#,
            [4, 2, 1],
            &["tests.test_a.test_two[<x>]: assert 1 == 2", "tests.test_b.test_four: failed on setup"],
        );
    }

    #[test]
    fn surefire() {
        check(
            r#"<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" tests="3" name="shop.CartTest">
            <properties><property name="java.version" value="21"/></properties>
            <testcase name="total" classname="shop.CartTest" time="0.1"><failure type="java.lang.AssertionError">
            <![CDATA[java.lang.AssertionError: expected:<1> but was:<2>
                at shop.CartTest.total(CartTest.java:5)]]></failure></testcase>
            <testcase name="flaky" classname="shop.CartTest"><flakyFailure message="once">x</flakyFailure></testcase>
            <testcase name="off" classname="shop.CartTest"><skipped/></testcase></testsuite>"#,
            [3, 1, 1],
            &["shop.CartTest.total: java.lang.AssertionError: expected:<1> but was:<2>"],
        );
    }

    #[test]
    fn go_junit_report() {
        check(
            r#"<testsuites tests="2" failures="1"><testsuite name="example.com/shop" tests="2" failures="1" id="0">
            <testcase name="TestA" classname="example.com/shop" time="0.000"></testcase>
            <testcase name="TestB/sub" classname="example.com/shop"><failure message="Failed" type="">
            shop_test.go:9: got 1 &amp; 2</failure></testcase></testsuite></testsuites>"#,
            [2, 1, 0],
            &["example.com/shop.TestB/sub: Failed"],
        );
    }

    #[test]
    fn nextest() {
        check(
            r#"<testsuites name="nextest-run" tests="2" failures="1" errors="0" uuid="0"><testsuite name="shop">
            <testcase name="cart::tests::total" classname="shop" timestamp="2026-01-01T00:00:00+00:00" time="0.01">
            <failure type="test failure">thread &apos;cart&apos; panicked at src/cart.rs:3:5:
            left == right</failure></testcase><testcase name="b" classname="shop"/></testsuite></testsuites>"#,
            [2, 1, 0],
            &["shop.cart::tests::total: thread 'cart' panicked at src/cart.rs:3:5:"],
        );
    }

    #[test]
    fn jest_and_gtest() {
        check(
            r#"<testsuites><testsuite name="cart"><testcase classname="cart adds" name="cart adds up"><failure>Error: x
            </failure></testcase></testsuite></testsuites>"#,
            [1, 1, 0],
            &["cart adds up: Error: x"],
        );
        check(
            r#"<testsuites><testsuite name="S"><testcase name="D" status="notrun" classname="S"/><testcase name="E"
            status="run" classname="S"/></testsuite></testsuites>"#,
            [2, 0, 1],
            &[],
        );
    }

    #[test]
    fn a_failure_with_an_error_counts_once() {
        check(
            "<testsuite><testcase name='a'><failure/><error message='m'/></testcase></testsuite>",
            [1, 1, 0],
            &["a: m"],
        );
        check("<testsuites/>", [0, 0, 0], &[]);
    }

    #[test]
    fn bytes_of_other_encodings_do_not_spoil_a_report() {
        let xml = b"<testsuite><testcase name='\xff'><failure message='\xfe'/></testcase></testsuite>";
        assert_eq!(parse(&xml[..]).unwrap().failed[0].to_string(), "\u{fffd}: \u{fffd}");
    }

    #[test]
    fn hostile_reports_are_errors() {
        let error = |xml: &str| parse(xml.as_bytes()).unwrap_err();
        assert!(matches!(error("<testsuite><b></testsuite>"), JunitError::Xml { .. }));
        assert!(matches!(error(&"<testsuite>".repeat(100)), JunitError::TooDeep));
        assert!(matches!(error("<testsuite><testcase>"), JunitError::Truncated));
        assert!(matches!(error(""), JunitError::Truncated));
        assert_eq!(error("<html/>").to_string(), "not a JUnit report: its outermost element is <html>");
        let bomb = "<!DOCTYPE t [<!ENTITY a 'aa'><!ENTITY b '&a;&a;'>]><testsuite name='&b;'/>";
        assert!(matches!(error(bomb), JunitError::DocumentType));
        assert!(matches!(parse(io::repeat(b' ')), Err(JunitError::TooLarge)));
    }

    #[test]
    fn unknown_entities_stay_as_they_are() {
        check(
            "<testsuite><testcase name='&x;'><failure>&y;z</failure></testcase></testsuite>",
            [1, 1, 0],
            &["&x;: z"],
        );
    }

    #[test]
    fn long_texts_and_many_failures_are_bounded() {
        let case = format!("<testcase name='n'><failure>{}</failure></testcase>", "é".repeat(10_000));
        let report =
            parse(format!("<testsuite>{}</testsuite>", case.repeat(FAILED_MAX + 1)).as_bytes()).unwrap();
        assert_eq!(report.totals.failures, FAILED_MAX as u64 + 1);
        assert_eq!(report.failed.len(), FAILED_MAX);
        assert_eq!(report.failed[0].message.chars().count(), TEXT_MAX);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn anything_is_read_or_refused(parts in proptest::collection::vec(proptest::sample::select(vec![
            "<testsuite>", "</testsuite>", "<testcase name='a'>", "</testcase>", "<failure message=", "'x'", ">", "<",
            "/>", "&lt;", "&", ";", "<![CDATA[", "]]>", "<!--", "-->", "<?xml", "?>", "<error/>", "\u{0}", "é", "=", "\"",
        ]), 0..24)) {
            if let Err(error) = parse(parts.concat().as_bytes()) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}
