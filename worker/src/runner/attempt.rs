use std::sync::Arc;
use std::time::Duration;

use engine::types::ContainerId;
use pipelines::{Job, JobOutcome, Status, Step};
use tokio::time::Instant;

use super::containers::Containers;
use super::images::Images;
use super::job::{JobReport, StepReport};
use super::run::Settings;
use super::step::{StepEnd, run_step, step_name};
use crate::event::{Event, Level, Phase};
use crate::mask::Masker;

/// The exit code of a process that was killed by signal 9.
const KILLED: i32 = 137;
/// How long all post steps of a job may take together.
const POST_TIMEOUT: Duration = Duration::from_secs(300);

/// One try of a job.
pub(super) struct Attempt<'a> {
    pub(super) job: &'a Job,
    pub(super) number: u32,
    pub(super) settings: &'a Settings,
    pub(super) images: &'a Arc<Images>,
    /// Names and values.
    pub(super) secrets: &'a [(String, String)],
    pub(super) masker: &'a Arc<Masker>,
}

/// Why an attempt did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// A step's script ended with an error.
    #[error("step {step:?} failed with exit code {code}")]
    Step { step: Arc<str>, code: i32 },
    /// A step's script has nothing to run it.
    #[error("step {step:?} failed with exit code {code}: {reason}")]
    NoShell { step: Arc<str>, code: i32, reason: String },
    /// A step took longer than it may.
    #[error("step {step:?} timed out after {}s", limit.as_secs())]
    StepTimeout { step: Arc<str>, limit: Duration },
    /// The job took longer than it may.
    #[error("the job timed out after {}s", limit.as_secs())]
    JobTimeout { limit: Duration },
    /// The kernel ended a process for want of memory.
    #[error("step {step:?} ran out of memory")]
    OutOfMemory { step: Arc<str> },
    /// The container ended under a step: its first process or its supervisor was killed from outside.
    #[error("the job's container was killed while step {step:?} ran")]
    ContainerKilled { step: Arc<str> },
    /// A service ended, or never became healthy.
    #[error("{0}")]
    Service(String),
    /// The run was stopped.
    #[error("cancelled")]
    Cancelled,
    /// It could not be set up.
    #[error("{0}")]
    SetUp(String),
}

/// How an attempt ended.
pub(super) struct AttemptEnd {
    pub(super) report: JobReport,
    pub(super) failure: Option<Failure>,
}

/// Runs one attempt and takes down everything it made.
pub(super) async fn run_attempt(attempt: &Attempt<'_>) -> AttemptEnd {
    let mut containers = Containers::new(attempt);
    let mut steps = Vec::new();
    let deadline = Instant::now() + attempt.job.timeout.to_std();
    let failure = attempt.perform(&mut containers, &mut steps, deadline).await.err();
    let tests = if attempt.settings.stop.is_urgent() {
        None
    } else {
        attempt.keep(&containers, failure.is_none()).await
    };
    attempt.phase(Phase::TearDown);
    if let Err(error) = containers.take_down().await {
        attempt.notice(Level::Warning, format!("take the job down: {}", crate::causes(&error)));
    }
    let outcome = match &failure {
        None => JobOutcome::Succeeded,
        Some(Failure::Cancelled) => JobOutcome::Cancelled,
        Some(_) => JobOutcome::Failed,
    };
    let failed = steps.iter().find(|step: &&StepReport| step.exit_code != Some(0));
    let exit_code = match failed {
        Some(step) => step.exit_code,
        None if failure.is_none() => Some(0),
        None => None,
    };
    AttemptEnd { report: JobReport { outcome, attempts: attempt.number, steps, exit_code, tests }, failure }
}

impl Attempt<'_> {
    async fn perform(
        &self,
        containers: &mut Containers<'_>,
        steps: &mut Vec<StepReport>,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let stop = self.settings.stop.clone();
        let container = tokio::select! {
            biased;
            () = stop.requested() => return Err(Failure::Cancelled),
            () = tokio::time::sleep_until(deadline) => return Err(self.timed_out()),
            container = containers.set_up() => container?,
        };
        self.restore_caches(containers).await;
        let mut failure = None;
        for step in &self.job.steps {
            let status = if failure.is_none() { Status::Success } else { Status::Failure };
            match self.job.runs_step(step, status) {
                Ok(true) => {
                    let result = self.step(containers, container, step, deadline, steps).await;
                    failure = failure.or(result.err());
                }
                Ok(false) => self.skipped(step, status),
                Err(error) => failure = failure.or(Some(Failure::SetUp(format!("when: {error}")))),
            }
            if matches!(
                failure,
                Some(
                    Failure::Cancelled
                        | Failure::JobTimeout { .. }
                        | Failure::ContainerKilled { .. }
                        | Failure::NoShell { .. }
                        | Failure::Service(_)
                )
            ) {
                break;
            }
        }
        self.post_steps(containers, container, failure.is_none()).await;
        failure.map_or(Ok(()), Err)
    }

    async fn step(
        &self,
        containers: &Containers<'_>,
        container: ContainerId,
        step: &Step,
        deadline: Instant,
        steps: &mut Vec<StepReport>,
    ) -> Result<(), Failure> {
        let name = step_name(step);
        let own = step.timeout.map(pipelines::Duration::to_std);
        let limit = own.map_or(deadline, |own| deadline.min(Instant::now() + own));
        let end = run_step(self, containers, container, step, limit).await?;
        steps.push(StepReport { name: Arc::clone(&name), exit_code: end.exit_code() });
        match end {
            StepEnd::Exited { code: 0, .. } => Ok(()),
            StepEnd::Exited { oom_killed: true, .. } => Err(Failure::OutOfMemory { step: name }),
            StepEnd::Exited { code: KILLED, .. } if containers.job_has_ended().await => {
                Err(Failure::ContainerKilled { step: name })
            }
            StepEnd::Exited { code, .. } => Err(Failure::Step { step: name, code }),
            StepEnd::NoShell { code, reason } => Err(Failure::NoShell { step: name, code, reason }),
            StepEnd::TimedOut => Err(match own {
                Some(limit) if Instant::now() < deadline => Failure::StepTimeout { step: name, limit },
                _ => self.timed_out(),
            }),
            StepEnd::Stopped => Err(Failure::Cancelled),
            StepEnd::ServiceEnded(text) => Err(Failure::Service(text)),
        }
    }

    /// Runs the post steps, whatever happened, unless the run is to stop at once. They do not change how the job
    /// ended.
    async fn post_steps(&self, containers: &Containers<'_>, container: ContainerId, success: bool) {
        let status = if success { Status::Success } else { Status::Failure };
        let deadline = Instant::now() + POST_TIMEOUT;
        for step in self.job.post_steps(status) {
            if self.settings.stop.is_urgent() {
                return;
            }
            match self.job.condition_holds(step, status) {
                Ok(true) => {}
                Ok(false) => {
                    self.skipped(step, status);
                    continue;
                }
                Err(error) => {
                    self.notice(Level::Warning, format!("post step {:?}: when: {error}", step_name(step)));
                    continue;
                }
            }
            let limit = step.timeout.map_or(deadline, |own| deadline.min(Instant::now() + own.to_std()));
            match super::step::run_post_step(self, containers, container, step, limit).await {
                Ok(StepEnd::Exited { code: 0, .. }) => {}
                Ok(StepEnd::Exited { code, .. }) => {
                    self.notice(
                        Level::Warning,
                        format!("post step {:?} failed with exit code {code}", step_name(step)),
                    );
                }
                Ok(StepEnd::NoShell { code, reason }) => {
                    let name = step_name(step);
                    self.notice(
                        Level::Warning,
                        format!("post step {name:?} failed with exit code {code}: {reason}"),
                    );
                }
                Ok(_) => self.notice(Level::Warning, format!("post step {:?} was stopped", step_name(step))),
                Err(error) => {
                    self.notice(Level::Warning, format!("post step {:?}: {error}", step_name(step)));
                }
            }
        }
    }

    fn skipped(&self, step: &Step, status: Status) {
        let reason = match (&step.when, status) {
            (Some(condition), _) => format!("when: {}", condition.as_str()),
            (None, _) => "an earlier step failed".to_owned(),
        };
        self.settings.reporter.report(Event::StepSkipped {
            job: self.job.id.clone(),
            step: step_name(step),
            reason,
        });
    }

    fn timed_out(&self) -> Failure {
        Failure::JobTimeout { limit: self.job.timeout.to_std() }
    }

    pub(super) fn phase(&self, phase: Phase) {
        self.settings.reporter.report(Event::Phase { job: self.job.id.clone(), phase });
    }

    /// Tells what this host cannot do for a container.
    pub(super) fn warn_of(&self, started: &engine::Process) {
        for warning in started.warnings() {
            self.notice(Level::Warning, warning.clone());
        }
    }

    /// Tells something, masked: file names and test reports are the job's own words.
    pub(super) fn notice(&self, level: Level, text: String) {
        let text = self.masker.mask(&text);
        self.settings.reporter.report(Event::Notice { job: self.job.id.clone(), level, text });
    }
}
