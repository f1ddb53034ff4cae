//! A Dockerfile as data.
//!
//! Docker's Dockerfile reference is the source of the format, BuildKit's `frontend/dockerfile` of what the reference
//! leaves open. Values are kept as they stand, quotes and variables included: what they mean depends on variables
//! that are known only while the build runs (see `expand`).

mod flags;
mod lower;
mod prepare;
mod words;

use std::ops::Range;

use crate::diagnostic::{Diagnostic, Place};

pub use flags::parse_duration;
pub(crate) use lower::{parse, parse_trigger};

/// The parsed file.
#[derive(Debug)]
pub(crate) struct Dockerfile {
    /// `ARG` before the first `FROM`.
    pub(crate) global_args: Vec<(Place, Arg)>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) escape: char,
}

/// `FROM` and all up to the next.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) name: Option<String>,
    pub(crate) image: String,
    pub(crate) platform: Option<String>,
    pub(crate) place: Place,
    /// Where the image is named.
    pub(crate) image_place: Place,
    pub(crate) instructions: Vec<Instruction>,
}

/// One instruction.
#[derive(Debug)]
pub(crate) struct Instruction {
    pub(crate) action: Action,
    pub(crate) place: Place,
    /// The instruction on one line, for progress.
    pub(crate) text: String,
}

/// What an instruction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Run(Run),
    Copy(Copy),
    Env(Vec<(String, String)>),
    Arg(Vec<Arg>),
    Workdir(String),
    User(String),
    Expose(Vec<String>),
    Cmd(Command),
    Entrypoint(Command),
    Label(Vec<(String, String)>),
    Volume(Vec<String>),
    Shell(Vec<String>),
    StopSignal(String),
    Healthcheck(Check),
    OnBuild(String),
    Maintainer(String),
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Run {
    Command(Command),
    /// A here-document that stands alone: a script for the shell.
    Script(String),
    /// A here-document that stands alone and names its own interpreter (`#!`): a program.
    Program {
        name: String,
        content: String,
    },
}

/// Shell or exec form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Shell(String),
    Exec(Vec<String>),
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    /// `ADD`: archives are unpacked.
    pub(crate) add: bool,
    pub(crate) from: Option<String>,
    pub(crate) chown: Option<String>,
    pub(crate) chmod: Option<String>,
    pub(crate) sources: Vec<CopySource>,
    pub(crate) destination: String,
    /// Where each source, and last the destination, stands in the file.
    pub(crate) spans: Vec<Range<usize>>,
    /// Where the flags stand, by name.
    pub(crate) flag_spans: Vec<(&'static str, Range<usize>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopySource {
    Path(String),
    /// A here-document: a file with this name.
    Inline {
        name: String,
        content: String,
        expand: bool,
    },
}

/// One name of `ARG`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arg {
    pub(crate) name: String,
    pub(crate) default: Option<String>,
}

/// `HEALTHCHECK`; durations in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    None,
    Command {
        command: Command,
        interval: i64,
        timeout: i64,
        start_period: i64,
        start_interval: i64,
        retries: i64,
    },
}

impl Instruction {
    pub(crate) fn problem(&self, problem: crate::error::Problem) -> Diagnostic {
        self.place.problem(problem)
    }
}

impl Copy {
    pub(crate) fn keyword(&self) -> &'static str {
        if self.add { "ADD" } else { "COPY" }
    }

    /// Where a flag stands in the file.
    pub(crate) fn flag_span(&self, name: &str) -> Option<Range<usize>> {
        self.flag_spans.iter().find(|(flag, _)| *flag == name).map(|(_, span)| span.clone())
    }
}

#[cfg(test)]
mod tests;
