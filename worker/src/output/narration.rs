//! Events into lines: what is said, in which words, whoever reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pipelines::{JobId, JobOutcome};

use super::lines::LineBuffer;
use super::sanitize::{Colors, label};
use super::summary::Summary;
use super::units;
use crate::event::{Event, Level, Phase};

/// The source of what a build's instructions write.
pub(super) const BUILD: &str = "build";

/// A line for the reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Whose line it is: the job's place in the run, from 0, and `job` or `job | step`.
    pub(super) prefix: Option<(usize, String)>,
    /// What kind of line it is.
    pub(super) tone: Tone,
    /// What it says, harmless to a terminal.
    pub(super) text: String,
}

/// What kind of line it is, for those who show it in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// A job's own words.
    Output,
    /// Something begins or is told in passing.
    Quiet,
    /// Something went well.
    Good,
    /// Something deserves a look.
    Warning,
    /// Something failed.
    Bad,
}

/// Tells a run as lines.
#[derive(Debug)]
pub(super) struct Narrator {
    colors: Colors,
    jobs: BTreeMap<JobId, JobState>,
    summary: Summary,
}

#[derive(Debug, Default)]
struct JobState {
    /// The job's place in the run.
    place: usize,
    name: String,
    /// Unfinished lines: by source, standard error apart from standard output.
    buffers: BTreeMap<(Arc<str>, bool), LineBuffer>,
    /// The image that is being pulled, and its bytes so far.
    pull: Option<(String, u64)>,
}

impl Narrator {
    /// Begins with nothing told; colours of jobs' output are kept or dropped.
    pub(super) fn new(colors: Colors) -> Self {
        Self { colors, jobs: BTreeMap::new(), summary: Summary::default() }
    }

    /// What an event is worth: no line, one or more.
    pub(super) fn tell(&mut self, event: &Event) -> Vec<Line> {
        self.summary.note(event);
        match event {
            Event::RunStarted { name, jobs } => {
                self.expect(jobs);
                let text = format!("run {}: {}", label(name), units::count(jobs.len() as u64, "job"));
                vec![Line { prefix: None, tone: Tone::Quiet, text }]
            }
            Event::RunEnded { outcome, duration } => {
                let mut lines: Vec<Line> = Vec::new();
                for job in self.jobs.values_mut() {
                    job.flush(self.colors, |_| true, &mut lines);
                }
                lines.extend(self.summary.lines(*outcome, *duration));
                lines
            }
            Event::JobStarted { job, .. }
            | Event::Phase { job, .. }
            | Event::PullProgress { job, .. }
            | Event::BuildStep { job, .. }
            | Event::StepStarted { job, .. }
            | Event::StepSkipped { job, .. }
            | Event::Output { job, .. }
            | Event::StepEnded { job, .. }
            | Event::Notice { job, .. }
            | Event::ArtifactsKept { job, .. }
            | Event::JobEnded { job, .. } => {
                let colors = self.colors;
                let mut lines = Vec::new();
                self.job(job).tell(event, colors, &mut lines);
                lines
            }
        }
    }

    /// The line that a source is writing, as it stands.
    pub(super) fn current(&self, job: &JobId, source: &Arc<str>, stderr: bool) -> String {
        let buffer = self.jobs.get(job).and_then(|job| job.buffers.get(&(Arc::clone(source), stderr)));
        buffer.map(LineBuffer::current).unwrap_or_default()
    }

    /// A job's place in the run and displayed name.
    pub(super) fn name(&mut self, job: &JobId) -> (usize, &str) {
        let job = self.job(job);
        (job.place, &job.name)
    }

    fn expect(&mut self, jobs: &[(JobId, String)]) {
        for (place, (id, name)) in jobs.iter().enumerate() {
            self.jobs.insert(id.clone(), JobState { place, name: label(name), ..JobState::default() });
        }
    }

    /// A job that was not announced goes by its id.
    fn job(&mut self, id: &JobId) -> &mut JobState {
        let place = self.jobs.len();
        let unannounced = || JobState { place, name: id.to_string(), ..JobState::default() };
        self.jobs.entry(id.clone()).or_insert_with(unannounced)
    }
}

impl JobState {
    fn tell(&mut self, event: &Event, colors: Colors, lines: &mut Vec<Line>) {
        if !matches!(event, Event::PullProgress { .. } | Event::Output { .. } | Event::Notice { .. }) {
            self.pull_ended(lines);
        }
        match event {
            Event::JobStarted { attempt: 1, .. } => lines.push(self.line(Tone::Quiet, "started".into())),
            Event::JobStarted { attempt, .. } => {
                self.flush(colors, |_| true, lines);
                lines.push(self.line(Tone::Quiet, format!("started again, attempt {attempt}")));
            }
            Event::Phase { phase, .. } => lines.push(self.line(Tone::Quiet, phase_text(phase))),
            Event::PullProgress { image, received, .. } => self.pull = Some((label(image), *received)),
            Event::BuildStep { number, total, text, cached, .. } => {
                self.flush(colors, |source| source == BUILD, lines);
                let cached = if *cached { " (cached)" } else { "" };
                let text = format!("{number}/{total} {}{cached}", label(text));
                lines.push(self.source_line(BUILD, Tone::Quiet, text));
            }
            Event::StepStarted { step, .. } => {
                lines.push(self.source_line(step, Tone::Quiet, "started".into()));
            }
            Event::StepSkipped { step, reason, .. } => {
                lines.push(self.source_line(step, Tone::Quiet, format!("skipped: {}", label(reason))));
            }
            Event::Output { source, stderr, bytes, .. } => {
                let buffer = self.buffers.entry((Arc::clone(source), *stderr)).or_default();
                let written = buffer.push(bytes, colors);
                lines.extend(written.into_iter().map(|text| self.source_line(source, Tone::Output, text)));
            }
            Event::StepEnded { step, exit_code, duration, .. } => {
                self.flush(colors, |source| source == &**step, lines);
                let (tone, text) = step_end(*exit_code, *duration);
                lines.push(self.source_line(step, tone, text));
            }
            Event::Notice { level, text, .. } => self.notice(*level, text, lines),
            Event::ArtifactsKept { files, bytes, directory, .. } => {
                let (files, bytes) = (units::count(*files, "artifact"), units::bytes(*bytes));
                let text = format!("kept {files} ({bytes}) in {}", label(&directory.to_string_lossy()));
                lines.push(self.line(Tone::Quiet, text));
            }
            Event::JobEnded { outcome, duration, reason, .. } => {
                self.flush(colors, |_| true, lines);
                let (tone, text) = job_end(outcome, *duration, reason.as_deref());
                lines.push(self.line(tone, text));
            }
            // Those of the run, not of a job.
            Event::RunStarted { .. } | Event::RunEnded { .. } => {}
        }
    }

    fn notice(&self, level: Level, text: &str, lines: &mut Vec<Line>) {
        let (tone, word) = match level {
            Level::Info => (Tone::Quiet, ""),
            Level::Warning => (Tone::Warning, "warning: "),
            Level::Error => (Tone::Bad, "error: "),
        };
        for (number, part) in text.trim_end().split('\n').enumerate() {
            let word = if number == 0 { word } else { "" };
            let mut text = super::sanitize::Sanitizer::default().line(part.as_bytes(), Colors::Strip);
            text.insert_str(0, word);
            lines.push(self.line(tone, text));
        }
    }

    /// Says how much was pulled, once the job has turned to something else.
    fn pull_ended(&mut self, lines: &mut Vec<Line>) {
        if let Some((image, received)) = self.pull.take() {
            lines.push(self.line(Tone::Quiet, format!("pulled {image}, {}", units::bytes(received))));
        }
    }

    /// Ends the unfinished lines of some sources.
    fn flush(&mut self, colors: Colors, of: impl Fn(&str) -> bool, lines: &mut Vec<Line>) {
        let mut rest = Vec::new();
        self.buffers.retain(|(source, _), buffer| {
            let ended = of(source);
            if ended {
                rest.extend(buffer.finish(colors).map(|text| (Arc::clone(source), text)));
            }
            !ended
        });
        lines.extend(rest.into_iter().map(|(source, text)| self.source_line(&source, Tone::Output, text)));
    }

    fn line(&self, tone: Tone, text: String) -> Line {
        Line { prefix: Some((self.place, self.name.clone())), tone, text }
    }

    fn source_line(&self, source: &str, tone: Tone, text: String) -> Line {
        Line { prefix: Some((self.place, format!("{} | {}", self.name, label(source)))), tone, text }
    }
}

/// What a job is busy with, as the live view and the log say it.
pub(super) fn phase_text(phase: &Phase) -> String {
    match phase {
        Phase::Pull(image) => format!("pulling {}", label(image)),
        Phase::Build => "building the image".into(),
        Phase::Services => "starting services".into(),
        Phase::RestoreCaches => "restoring caches".into(),
        Phase::SaveCaches => "saving caches".into(),
        Phase::Artifacts => "keeping artifacts".into(),
        Phase::TearDown => "tearing down".into(),
    }
}

fn step_end(exit_code: Option<i32>, duration: Duration) -> (Tone, String) {
    let duration = units::duration(duration);
    match exit_code {
        Some(0) => (Tone::Good, format!("succeeded in {duration}")),
        Some(code) => (Tone::Bad, format!("failed with exit code {code} after {duration}")),
        None => (Tone::Bad, format!("stopped after {duration}")),
    }
}

fn job_end(outcome: &JobOutcome, duration: Duration, reason: Option<&str>) -> (Tone, String) {
    let duration = units::duration(duration);
    let because = reason.map(|reason| format!(": {}", label(reason))).unwrap_or_default();
    match outcome {
        JobOutcome::Succeeded => (Tone::Good, format!("succeeded in {duration}")),
        JobOutcome::Failed => (Tone::Bad, format!("failed after {duration}{because}")),
        JobOutcome::Cancelled => (Tone::Warning, "cancelled".into()),
        JobOutcome::Skipped(_) => (Tone::Quiet, "skipped".into()),
    }
}
