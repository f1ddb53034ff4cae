//! What happens during a run, for whoever watches: a terminal, a log, later a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pipelines::{JobId, JobOutcome, RunOutcome};

/// Something that happened. All text and output in it is masked already.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run begins with these jobs.
    RunStarted {
        /// The pipeline's name.
        name: String,
        /// Every job's id and displayed name, in the file's order.
        jobs: Vec<(JobId, String)>,
    },
    /// A job begins, or begins again.
    JobStarted {
        /// Which.
        job: JobId,
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// A job turns to something that takes time.
    Phase {
        /// Which.
        job: JobId,
        /// To what.
        phase: Phase,
    },
    /// A layer of an image arrives.
    PullProgress {
        /// For which job.
        job: JobId,
        /// The image.
        image: String,
        /// Bytes that have arrived, of all layers that were missing.
        received: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A build begins an instruction.
    BuildStep {
        /// For which job.
        job: JobId,
        /// From 1.
        number: usize,
        /// Of how many.
        total: usize,
        /// The instruction.
        text: String,
        /// Its result was taken from the cache.
        cached: bool,
    },
    /// A step begins.
    StepStarted {
        /// In which job.
        job: JobId,
        /// Its name, or the first line of its script.
        step: Arc<str>,
    },
    /// A step is passed over.
    StepSkipped {
        /// In which job.
        job: JobId,
        /// Which.
        step: Arc<str>,
        /// Why.
        reason: String,
    },
    /// A step, a service or a build wrote something. Not cut at line ends.
    Output {
        /// In which job.
        job: JobId,
        /// What wrote it: a step's name, `build`, or a service's name.
        source: Arc<str>,
        /// Standard error rather than standard output.
        stderr: bool,
        /// What it wrote.
        bytes: Vec<u8>,
    },
    /// A step has ended.
    StepEnded {
        /// In which job.
        job: JobId,
        /// Which.
        step: Arc<str>,
        /// Its exit code; `None` if it timed out or was cancelled.
        exit_code: Option<i32>,
        /// How long it took.
        duration: Duration,
    },
    /// Something worth telling about a job.
    Notice {
        /// Which.
        job: JobId,
        /// How much it matters.
        level: Level,
        /// What.
        text: String,
    },
    /// Artifacts of a job were kept.
    ArtifactsKept {
        /// Which.
        job: JobId,
        /// How many files.
        files: u64,
        /// Their bytes in all.
        bytes: u64,
        /// Where they are now.
        directory: PathBuf,
    },
    /// A job has ended.
    JobEnded {
        /// Which.
        job: JobId,
        /// How.
        outcome: JobOutcome,
        /// How long it took, all attempts together.
        duration: Duration,
        /// Its test results, if it reported any.
        tests: Option<TestTotals>,
        /// Why it failed, in a line, if it did.
        reason: Option<String>,
    },
    /// The run has ended.
    RunEnded {
        /// How.
        outcome: RunOutcome,
        /// How long it took.
        duration: Duration,
    },
}

/// What a job is busy with besides its steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Getting an image.
    Pull(String),
    /// Building its image.
    Build,
    /// Starting services and waiting for their health.
    Services,
    /// Getting caches.
    RestoreCaches,
    /// Keeping caches.
    SaveCaches,
    /// Keeping artifacts.
    Artifacts,
    /// Taking everything down.
    TearDown,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// For the curious.
    Info,
    /// Something is not as it should be.
    Warning,
    /// The reason for a failure.
    Error,
}

/// Test results of a job, from its JUnit reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TestTotals {
    /// All tests.
    pub tests: u64,
    /// Those that failed or broke.
    pub failures: u64,
    /// Those that were not run.
    pub skipped: u64,
}

/// Takes events as they happen; called from several tasks at once, must not block for long.
pub trait Reporter: Send + Sync {
    /// Takes one.
    fn report(&self, event: Event);
}
