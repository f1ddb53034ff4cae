//!
//! Both tell the same story in the same lines: `narration` turns events into lines, `summary` closes the run;
//! the reporters only put lines where they belong.

mod lines;
mod narration;
mod plain;
mod sanitize;
mod summary;
mod terminal;
mod units;

#[cfg(test)]
mod test_run;

pub use plain::PlainReporter;
pub use terminal::TerminalReporter;
