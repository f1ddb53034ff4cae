use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipelines::{JobId, JobOutcome, RunOutcome, SkipReason};

use super::narration::{Line, Tone};
use super::sanitize::label;
use super::units;
use crate::event::{Event, TestTotals};

/// Gathers what the end of a run is told with.
#[derive(Debug, Default)]
pub(super) struct Summary {
    run: String,
    jobs: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    id: JobId,
    name: String,
    /// The first step of the last attempt that failed; with its exit code if it had one.
    failed_step: Option<(Arc<str>, Option<i32>)>,
    artifacts: Option<Artifacts>,
    end: Option<End>,
}

#[derive(Debug)]
struct Artifacts {
    files: u64,
    bytes: u64,
    directory: PathBuf,
}

#[derive(Debug)]
struct End {
    outcome: JobOutcome,
    duration: Duration,
    tests: Option<TestTotals>,
    reason: Option<String>,
}

impl Summary {
    /// Remembers of an event what the summary will say.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::RunStarted { name, jobs } => {
                self.run = label(name);
                self.jobs = jobs.iter().map(|(id, name)| Entry::new(id.clone(), label(name))).collect();
            }
            Event::JobStarted { job, .. } => {
                let entry = self.entry(job);
                (entry.failed_step, entry.artifacts) = (None, None);
            }
            Event::StepEnded { job, step, exit_code, .. } if *exit_code != Some(0) => {
                self.entry(job).failed_step.get_or_insert_with(|| (Arc::clone(step), *exit_code));
            }
            Event::ArtifactsKept { job, files, bytes, directory } => {
                let artifacts = Artifacts { files: *files, bytes: *bytes, directory: directory.clone() };
                self.entry(job).artifacts = Some(artifacts);
            }
            Event::JobEnded { job, outcome, duration, tests, reason } => {
                self.entry(job).end = Some(End {
                    outcome: outcome.clone(),
                    duration: *duration,
                    tests: *tests,
                    reason: reason.clone(),
                });
            }
            _ => {}
        }
    }

    /// The summary, with an empty line before it: jobs in the file's order, then the run.
    pub(super) fn lines(&self, outcome: RunOutcome, duration: Duration) -> Vec<Line> {
        let mut lines = vec![Line { prefix: None, tone: Tone::Quiet, text: String::new() }];
        let width = self.jobs.iter().map(|job| job.name.chars().count()).max().unwrap_or(0);
        for job in &self.jobs {
            self.job_lines(job, width, &mut lines);
        }
        let (sign, tone, word) = match outcome {
            RunOutcome::Succeeded => (SUCCEEDED, Tone::Good, "succeeded in"),
            RunOutcome::Failed => (FAILED, Tone::Bad, "failed after"),
            RunOutcome::Cancelled => (CANCELLED, Tone::Warning, "was cancelled after"),
        };
        let text = format!("{sign} run {} {word} {}", self.run, units::duration(duration));
        lines.push(Line { prefix: None, tone, text });
        lines
    }

    fn job_lines(&self, job: &Entry, width: usize, lines: &mut Vec<Line>) {
        let (sign, tone, duration) = match &job.end {
            Some(End { outcome: JobOutcome::Succeeded, duration, .. }) => {
                (SUCCEEDED, Tone::Good, Some(duration))
            }
            Some(End { outcome: JobOutcome::Failed, duration, .. }) => (FAILED, Tone::Bad, Some(duration)),
            // One that never began took no time.
            Some(End { outcome: JobOutcome::Cancelled, duration, .. }) => {
                (CANCELLED, Tone::Warning, (!duration.is_zero()).then_some(duration))
            }
            Some(End { outcome: JobOutcome::Skipped(_), .. }) | None => (SKIPPED, Tone::Quiet, None),
        };
        let duration = duration.map(|duration| units::duration(*duration)).unwrap_or_default();
        let mut details = self.details(job).into_iter();
        let first = details.next().unwrap_or_default();
        let head = format!("{sign} {:width$}  {duration:>DURATION_WIDTH$}  {first}", job.name);
        lines.push(Line { prefix: None, tone, text: head.trim_end().to_owned() });
        let indent = 2 + width + 2 + DURATION_WIDTH + 2;
        for detail in details {
            lines.push(Line { prefix: None, tone: Tone::Quiet, text: format!("{:indent$}{detail}", "") });
        }
    }

    fn details(&self, job: &Entry) -> Vec<String> {
        let mut details = Vec::new();
        if let Some(end) = &job.end {
            details.extend(match &end.outcome {
                JobOutcome::Succeeded => None,
                JobOutcome::Failed => Some(failure(job.failed_step.as_ref(), end.reason.as_deref())),
                JobOutcome::Cancelled => Some("cancelled".to_owned()),
                JobOutcome::Skipped(SkipReason::Condition) => {
                    Some("skipped: its condition does not hold".to_owned())
                }
                JobOutcome::Skipped(SkipReason::Need(need)) => {
                    let need =
                        self.jobs.iter().find(|job| job.id == *need).map_or(need.as_str(), |job| &job.name);
                    Some(format!("skipped: {need} did not succeed"))
                }
            });
            details.extend(end.tests.map(tests));
        }
        if let Some(Artifacts { files, bytes, directory }) = &job.artifacts {
            let (files, bytes) = (units::count(*files, "artifact"), units::bytes(*bytes));
            details.push(format!("{files} ({bytes}) in {}", label(&directory.to_string_lossy())));
        }
        details
    }

    /// A job that was not announced goes by its id.
    fn entry(&mut self, id: &JobId) -> &mut Entry {
        let place = self.jobs.iter().position(|job| job.id == *id).unwrap_or_else(|| {
            self.jobs.push(Entry::new(id.clone(), id.to_string()));
            self.jobs.len() - 1
        });
        &mut self.jobs[place]
    }
}

const SUCCEEDED: char = '✓';
const FAILED: char = '✗';
const CANCELLED: char = '!';
const SKIPPED: char = '-';
/// Wide enough for anything below an hour.
const DURATION_WIDTH: usize = 7;

impl Entry {
    fn new(id: JobId, name: String) -> Self {
        Self { id, name, failed_step: None, artifacts: None, end: None }
    }
}

/// Why a job failed; names the step even if the reason does not.
fn failure(step: Option<&(Arc<str>, Option<i32>)>, reason: Option<&str>) -> String {
    let reason = reason.map(label);
    let Some((step, exit_code)) = step.map(|(step, exit_code)| (label(step), exit_code)) else {
        return reason.unwrap_or_else(|| "failed".to_owned());
    };
    match (reason, exit_code) {
        (Some(reason), _) if reason.contains(&step) => reason,
        (Some(reason), _) => format!("step {step:?}: {reason}"),
        (None, Some(code)) => format!("step {step:?} failed with exit code {code}"),
        (None, None) => format!("step {step:?} was stopped"),
    }
}

fn tests(totals: TestTotals) -> String {
    let passed = totals.tests.saturating_sub(totals.failures).saturating_sub(totals.skipped);
    let mut text = format!("{}: {passed} passed", units::count(totals.tests, "test"));
    for (number, word) in [(totals.failures, "failed"), (totals.skipped, "skipped")] {
        if number > 0 {
            text.push_str(&format!(", {number} {word}"));
        }
    }
    text
}
