//! When each job of a run starts: a state machine that worker and server share.
//!
//! It knows no clock, no parallelism and no attempts: whoever drives it starts the jobs that it names, as soon
//! or as late as there is room, and reports how each ended.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{JobId, Plan};

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    jobs: IndexMap<JobId, Entry>,
    cancelled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    needs: Vec<JobId>,
    wanted: bool,
    allow_failure: bool,
    state: JobState,
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// What it needs has not ended.
    Waiting,
    /// It was named by [`Effect::Start`] and has not ended.
    Started,
    /// It ended, and will not change any more.
    Ended(JobOutcome),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobOutcome {
    /// All steps succeeded.
    Succeeded,
    /// A step failed, the job timed out, or it could not be set up; attempts are used up.
    Failed,
    /// It was stopped, or never started, because the run was cancelled.
    Cancelled,
    /// It never started.
    Skipped(SkipReason),
}

/// Why a job never started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// Its condition does not hold.
    Condition,
    /// This job, which it needs, did not succeed.
    Need(JobId),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// No job failed, but those that may.
    Succeeded,
    /// A job failed that may not.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// What happened to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleEvent {
    /// A started job ended.
    Ended {
        /// The job.
        job: JobId,
        /// How: anything but skipped, which is the schedule's own to say.
        outcome: JobOutcome,
    },
    /// The run is to stop.
    Cancel,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start the job.
    Start(JobId),
    /// Stop the started job, and report when it has ended.
    Stop(JobId),
    /// The job ended without having started.
    Ended {
        /// The job.
        job: JobId,
        /// How: skipped or cancelled.
        outcome: JobOutcome,
    },
    /// Every job has ended.
    Finish(RunOutcome),
}

/// An event that cannot happen in this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The run has no such job.
    #[error("the run has no job `{0}`")]
    UnknownJob(JobId),
    /// The job was not started, or has ended before.
    #[error("the job `{0}` is not under way")]
    NotStarted(JobId),
    /// A started job cannot be skipped.
    #[error("the job `{0}` was started and cannot be skipped")]
    Skipped(JobId),
}

impl Schedule {
    /// A new run of a plan, and what is to be done first.
    pub fn new(plan: &Plan) -> (Self, Vec<Effect>) {
        let entry = |job: &crate::Job| Entry {
            needs: job.needs.clone(),
            wanted: job.wanted,
            allow_failure: job.allow_failure,
            state: JobState::Waiting,
        };
        let jobs = plan.jobs.iter().map(|job| (job.id.clone(), entry(job))).collect();
        let mut schedule = Self { jobs, cancelled: false };
        let mut effects = Vec::new();
        schedule.settle(&mut effects);
        (schedule, effects)
    }

    /// Takes an event in; an error leaves the schedule as it was.
    pub fn apply(&mut self, event: ScheduleEvent) -> Result<Vec<Effect>, ScheduleError> {
        let mut effects = Vec::new();
        match event {
            ScheduleEvent::Ended { job, outcome } => {
                let Some(entry) = self.jobs.get_mut(&job) else { return Err(ScheduleError::UnknownJob(job)) };
                if entry.state != JobState::Started {
                    return Err(ScheduleError::NotStarted(job));
                }
                if matches!(outcome, JobOutcome::Skipped(_)) {
                    return Err(ScheduleError::Skipped(job));
                }
                entry.state = JobState::Ended(outcome);
            }
            ScheduleEvent::Cancel => {
                if self.cancelled || self.outcome().is_some() {
                    return Ok(effects);
                }
                self.cancelled = true;
                let started = self.jobs.iter().filter(|(_, entry)| entry.state == JobState::Started);
                effects.extend(started.map(|(id, _)| Effect::Stop(id.clone())));
            }
        }
        self.settle(&mut effects);
        Ok(effects)
    }

    /// Where a job stands.
    pub fn state(&self, job: &JobId) -> Option<&JobState> {
        self.jobs.get(job).map(|entry| &entry.state)
    }

    /// How the run ended, once every job has.
    pub fn outcome(&self) -> Option<RunOutcome> {
        let mut outcome = if self.cancelled { RunOutcome::Cancelled } else { RunOutcome::Succeeded };
        for entry in self.jobs.values() {
            match &entry.state {
                JobState::Waiting | JobState::Started => return None,
                JobState::Ended(JobOutcome::Failed) if !entry.allow_failure && !self.cancelled => {
                    outcome = RunOutcome::Failed;
                }
                // A job that was stopped alone leaves its run without a result.
                JobState::Ended(JobOutcome::Cancelled) if outcome == RunOutcome::Succeeded => {
                    outcome = RunOutcome::Cancelled;
                }
                JobState::Ended(_) => {}
            }
        }
        Some(outcome)
    }

    /// Lets every waiting job whose needs have ended start, or end. Jobs stand after their needs, so that one pass
    /// carries a skip all the way.
    fn settle(&mut self, effects: &mut Vec<Effect>) {
        for i in 0..self.jobs.len() {
            let (Some(next), Some((id, entry))) = (self.next(i), self.jobs.get_index_mut(i)) else {
                continue;
            };
            effects.push(match &next {
                JobState::Ended(outcome) => Effect::Ended { job: id.clone(), outcome: outcome.clone() },
                _ => Effect::Start(id.clone()),
            });
            entry.state = next;
        }
        effects.extend(self.outcome().map(Effect::Finish));
    }

    /// The state that a waiting job goes to now.
    fn next(&self, index: usize) -> Option<JobState> {
        let (_, entry) = self.jobs.get_index(index)?;
        if entry.state != JobState::Waiting {
            return None;
        }
        if self.cancelled {
            return Some(JobState::Ended(JobOutcome::Cancelled));
        }
        if !entry.wanted {
            return Some(JobState::Ended(JobOutcome::Skipped(SkipReason::Condition)));
        }
        let needs = || entry.needs.iter().filter_map(|id| self.jobs.get_key_value(id));
        if let Some((id, _)) = needs().find(|(_, need)| need.blocks()) {
            return Some(JobState::Ended(JobOutcome::Skipped(SkipReason::Need(id.clone()))));
        }
        needs().all(|(_, need)| matches!(need.state, JobState::Ended(_))).then_some(JobState::Started)
    }
}

impl Entry {
    /// Whether the job ended in a way that keeps those that need it from starting.
    fn blocks(&self) -> bool {
        match &self.state {
            JobState::Waiting | JobState::Started | JobState::Ended(JobOutcome::Succeeded) => false,
            JobState::Ended(JobOutcome::Failed) => !self.allow_failure,
            JobState::Ended(JobOutcome::Cancelled | JobOutcome::Skipped(_)) => true,
        }
    }
}
