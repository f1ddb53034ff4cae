use std::sync::Arc;
use std::time::Instant;

use pipelines::{Job, JobOutcome};

use super::attempt::{Attempt, Failure, run_attempt};
use super::images::Images;
use super::run::{Settings, cancelled};
use crate::event::{Event, Level, TestTotals};
use crate::mask::Masker;

/// How a job ended.
#[derive(Debug, Clone)]
pub struct JobReport {
    /// How.
    pub outcome: JobOutcome,
    /// How often it was tried.
    pub attempts: u32,
    /// The steps of the last attempt that ran.
    pub steps: Vec<StepReport>,
    /// The exit code of the last attempt: the first failing step's, 0 if none failed, `None` if no step ended by
    /// itself.
    pub exit_code: Option<i32>,
    /// The test results of the last attempt.
    pub tests: Option<TestTotals>,
}

/// How a step ended.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// Its name.
    pub name: Arc<str>,
    /// Its exit code; `None` if it was stopped.
    pub exit_code: Option<i32>,
}

/// Runs a job until an attempt succeeds, attempts are used up, or the run is stopped.
pub(super) async fn run_job(job: &Job, settings: &Settings, images: &Arc<Images>) -> JobReport {
    let started = Instant::now();
    let mut report = cancelled();
    let mut reason = None;
    let secrets = match settings.secrets.of(job) {
        Ok(secrets) => secrets,
        Err(error) => {
            report.outcome = JobOutcome::Failed;
            let reason = Some(error.to_string());
            return ended(job, settings, started, report, reason);
        }
    };
    let masker = Arc::new(Masker::new(secrets.iter().map(|(_, value)| value.as_str())));
    for number in 1..=u32::from(job.retry) + 1 {
        settings.reporter.report(Event::JobStarted { job: job.id.clone(), attempt: number });
        let attempt = Attempt { job, number, settings, images, secrets: &secrets, masker: &masker };
        let end = run_attempt(&attempt).await;
        report = JobReport { attempts: number, ..end.report };
        reason = end.failure.as_ref().map(ToString::to_string);
        match end.failure {
            None | Some(Failure::Cancelled) => break,
            Some(failure) if number <= u32::from(job.retry) => {
                let text = format!("attempt {number} failed: {failure}; trying again");
                settings.reporter.report(Event::Notice { job: job.id.clone(), level: Level::Warning, text });
            }
            Some(_) => {}
        }
    }
    ended(job, settings, started, report, reason)
}

fn ended(
    job: &Job,
    settings: &Settings,
    started: Instant,
    report: JobReport,
    reason: Option<String>,
) -> JobReport {
    let is_allowed = job.allow_failure && report.outcome == JobOutcome::Failed;
    let reason = reason.map(|reason| if is_allowed { format!("{reason} (allowed)") } else { reason });
    settings.reporter.report(Event::JobEnded {
        job: job.id.clone(),
        outcome: report.outcome.clone(),
        duration: started.elapsed(),
        tests: report.tests,
        reason,
    });
    report
}
