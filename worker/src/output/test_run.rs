//! Runs as their events, for the reporters' tests.

use std::time::Duration;

use pipelines::{JobId, JobOutcome, RunOutcome, SkipReason};

use crate::event::{Event, Level, Phase, TestTotals};

pub(super) fn id(job: &str) -> JobId {
    serde_json::from_value(job.into()).unwrap()
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn run_started(jobs: &[(&str, &str)]) -> Event {
    let jobs = jobs.iter().map(|(job, name)| (id(job), (*name).to_owned())).collect();
    Event::RunStarted { name: "shop".into(), jobs }
}

pub(super) fn job_started(job: &str, attempt: u32) -> Event {
    Event::JobStarted { job: id(job), attempt }
}

pub(super) fn phase(job: &str, phase: Phase) -> Event {
    Event::Phase { job: id(job), phase }
}

pub(super) fn pull(job: &str, received: u64, total: u64) -> Event {
    Event::PullProgress { job: id(job), image: "debian:bookworm-slim".into(), received, total }
}

pub(super) fn build_step(job: &str, number: usize, text: &str, cached: bool) -> Event {
    Event::BuildStep { job: id(job), number, total: 3, text: text.into(), cached }
}

pub(super) fn step_started(job: &str, step: &str) -> Event {
    Event::StepStarted { job: id(job), step: step.into() }
}

pub(super) fn output(job: &str, source: &str, text: &str) -> Event {
    Event::Output { job: id(job), source: source.into(), stderr: false, bytes: text.into() }
}

pub(super) fn errors(job: &str, source: &str, text: &str) -> Event {
    Event::Output { job: id(job), source: source.into(), stderr: true, bytes: text.into() }
}

pub(super) fn step_ended(job: &str, step: &str, exit_code: Option<i32>, took: u64) -> Event {
    Event::StepEnded { job: id(job), step: step.into(), exit_code, duration: millis(took) }
}

pub(super) fn notice(job: &str, level: Level, text: &str) -> Event {
    Event::Notice { job: id(job), level, text: text.into() }
}

pub(super) fn job_ended(job: &str, outcome: JobOutcome, took: u64, reason: Option<&str>) -> Event {
    let reason = reason.map(str::to_owned);
    Event::JobEnded { job: id(job), outcome, duration: millis(took), tests: None, reason }
}

pub(super) fn run_ended(outcome: RunOutcome, took: u64) -> Event {
    Event::RunEnded { outcome, duration: millis(took) }
}

/// Two jobs at once, one of which fails at its second attempt, and one that is skipped for it.
pub(super) fn whole() -> Vec<Event> {
    vec![
        run_started(&[("lint", "lint"), ("test.1", "test (PG=15)"), ("deploy", "deploy"), ("docs", "docs")]),
        job_ended("docs", JobOutcome::Skipped(SkipReason::Condition), 0, None),
        job_started("lint", 1),
        phase("lint", Phase::Pull("debian:bookworm-slim".into())),
        pull("lint", 1_000, 2_000_000),
        job_started("test.1", 1),
        phase("test.1", Phase::Build),
        pull("lint", 31_400_000, 31_400_000),
        build_step("test.1", 1, "FROM debian:bookworm-slim", true),
        build_step("test.1", 2, "RUN apt-get update", false),
        output("test.1", "build", "Get:1 http://deb.debian.org\nReading package"),
        step_started("lint", "cargo fmt --check"),
        output("test.1", "build", " lists...\rReading package lists... 50%"),
        output("lint", "cargo fmt --check", "checking\n"),
        output("test.1", "build", "\rReading package lists... Done\r\nno end of line"),
        build_step("test.1", 3, "COPY . /src", false),
        step_ended("lint", "cargo fmt --check", Some(0), 3240),
        phase("test.1", Phase::Services),
        errors("test.1", "db", "LOG:  database system is ready\n"),
        notice("lint", Level::Info, "cache cargo-x86_64 found nothing"),
        job_ended("lint", JobOutcome::Succeeded, 4100, None),
        step_started("test.1", "unit"),
        output("test.1", "unit", "\x1b[31mtest a ... FAILED\x1b[0m\x1b]0;title\x07\n"),
        errors("test.1", "unit", "error: test failed"),
        step_ended("test.1", "unit", Some(101), 850),
        notice(
            "test.1",
            Level::Warning,
            "attempt 1 failed: step \"unit\" failed with exit code 101; trying again",
        ),
        job_started("test.1", 2),
        step_started("test.1", "unit"),
        step_ended("test.1", "unit", Some(0), 850),
        step_started("test.1", "integration"),
        step_ended("test.1", "integration", None, 60_000),
        Event::StepSkipped {
            job: id("test.1"),
            step: "report".into(),
            reason: "an earlier step failed".into(),
        },
        notice("test.1", Level::Error, "service \"db\" is gone\nits last words"),
        phase("test.1", Phase::Artifacts),
        Event::ArtifactsKept {
            job: id("test.1"),
            files: 3,
            bytes: 1_234_567,
            directory: ".lighter/artifacts/test.1".into(),
        },
        phase("test.1", Phase::TearDown),
        Event::JobEnded {
            job: id("test.1"),
            outcome: JobOutcome::Failed,
            duration: millis(65_200),
            tests: Some(TestTotals { tests: 40, failures: 2, skipped: 1 }),
            reason: Some("step \"integration\" timed out after 60s".into()),
        },
        job_ended("deploy", JobOutcome::Skipped(SkipReason::Need(id("test.1"))), 0, None),
        run_ended(RunOutcome::Failed, 69_400),
    ]
}

/// One job is stopped within a line, the other never begins.
pub(super) fn cancelled() -> Vec<Event> {
    vec![
        run_started(&[("build", "build"), ("test", "test")]),
        job_started("build", 1),
        step_started("build", "make"),
        output("build", "make", "compiling"),
        step_ended("build", "make", None, 12_000),
        job_ended("build", JobOutcome::Cancelled, 12_100, Some("cancelled")),
        job_ended("test", JobOutcome::Cancelled, 0, None),
        run_ended(RunOutcome::Cancelled, 12_200),
    ]
}

/// A job that the run did not begin with.
pub(super) fn unannounced() -> Vec<Event> {
    vec![
        run_started(&[]),
        output("late", "step", "hello\n"),
        step_ended("late", "step", Some(2), 10),
        job_ended("late", JobOutcome::Failed, 20, Some("no space left on device")),
        run_ended(RunOutcome::Failed, 30),
    ]
}
