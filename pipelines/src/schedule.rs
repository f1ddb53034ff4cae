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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::{Context, Pipeline};

    fn plan(jobs: &str) -> Plan {
        let text = format!("image: busybox\njobs:\n{jobs}");
        Pipeline::parse("p.yaml", &text).unwrap().expand(&Context::default()).unwrap()
    }

    /// Jobs that may be given how they end, and what happened in the order it did.
    #[track_caller]
    fn check(jobs: &str, failing: &[&str], expected: &[&str]) {
        let (mut schedule, mut effects) = Schedule::new(&plan(jobs));
        let mut log = Vec::new();
        while !effects.is_empty() {
            let mut next = Vec::new();
            for effect in effects {
                log.push(describe(&effect));
                if let Effect::Start(job) = effect {
                    let failed = failing.contains(&job.as_str());
                    let outcome = if failed { JobOutcome::Failed } else { JobOutcome::Succeeded };
                    next.extend(schedule.apply(ScheduleEvent::Ended { job, outcome }).unwrap());
                }
            }
            effects = next;
        }
        assert_eq!(log, expected);
    }

    fn describe(effect: &Effect) -> String {
        match effect {
            Effect::Start(job) => format!("start {job}"),
            Effect::Stop(job) => format!("stop {job}"),
            Effect::Ended { job, outcome: JobOutcome::Skipped(SkipReason::Need(need)) } => {
                format!("skip {job}: {need}")
            }
            Effect::Ended { job, outcome: JobOutcome::Skipped(SkipReason::Condition) } => {
                format!("skip {job}: when")
            }
            Effect::Ended { job, outcome } => format!("{outcome:?} {job}"),
            Effect::Finish(outcome) => format!("finish: {outcome:?}"),
        }
    }

    const CHAIN: &str = "  a: { steps: [{ run: ls }] }
  b: { needs: a, steps: [{ run: ls }] }
  c: { needs: b, steps: [{ run: ls }] }
  d: { steps: [{ run: ls }] }
";

    #[test]
    fn starts_what_is_ready() {
        check(CHAIN, &[], &["start a", "start d", "start b", "start c", "finish: Succeeded"]);
    }

    #[test]
    fn a_failure_skips_all_that_need_it() {
        check(CHAIN, &["a"], &["start a", "start d", "skip b: a", "skip c: b", "finish: Failed"]);
    }

    #[test]
    fn an_allowed_failure_stops_nothing() {
        let jobs = CHAIN.replace("a: { steps", "a: { allow_failure: true, steps");
        check(&jobs, &["a"], &["start a", "start d", "start b", "start c", "finish: Succeeded"]);
    }

    #[test]
    fn a_condition_skips_the_job_and_what_needs_it() {
        let jobs = CHAIN.replace("a: { steps", "a: { when: false, steps");
        check(&jobs, &[], &["skip a: when", "skip b: a", "skip c: b", "start d", "finish: Succeeded"]);
    }

    #[test]
    fn cancelling_stops_what_runs_and_starts_nothing_more() {
        let (mut schedule, _) = Schedule::new(&plan(CHAIN));
        let id = |name: &str| schedule.jobs.keys().find(|id| id.as_str() == name).unwrap().clone();
        let (a, d) = (id("a"), id("d"));
        let effects = schedule.apply(ScheduleEvent::Cancel).unwrap();
        let log: Vec<_> = effects.iter().map(describe).collect();
        assert_eq!(log, ["stop a", "stop d", "Cancelled b", "Cancelled c"]);
        assert_eq!(schedule.apply(ScheduleEvent::Cancel), Ok(Vec::new()));
        let ended = |job| ScheduleEvent::Ended { job, outcome: JobOutcome::Cancelled };
        assert_eq!(schedule.apply(ended(a.clone())), Ok(Vec::new()));
        assert_eq!(schedule.apply(ended(a.clone())), Err(ScheduleError::NotStarted(a)));
        assert_eq!(schedule.apply(ended(d)), Ok(vec![Effect::Finish(RunOutcome::Cancelled)]));
    }

    #[test]
    fn impossible_events_change_nothing() {
        let (mut schedule, _) = Schedule::new(&plan(CHAIN));
        let before = schedule.clone();
        let id = |name: &str| schedule.jobs.keys().find(|id| id.as_str() == name).unwrap().clone();
        let skipped =
            ScheduleEvent::Ended { job: id("a"), outcome: JobOutcome::Skipped(SkipReason::Condition) };
        let early = ScheduleEvent::Ended { job: id("b"), outcome: JobOutcome::Succeeded };
        let (a, b) = (id("a"), id("b"));
        assert_eq!(schedule.apply(skipped), Err(ScheduleError::Skipped(a)));
        assert_eq!(schedule.apply(early), Err(ScheduleError::NotStarted(b)));
        assert_eq!(schedule, before);
    }

    /// A pipeline in which job n needs some of the jobs before it.
    fn graphs() -> impl Strategy<Value = String> {
        prop::collection::vec((any::<u16>(), any::<bool>(), 0..8_u8), 1..12).prop_map(|jobs| {
            let job = |(i, (needs, allow, unwanted)): (usize, (u16, bool, u8))| {
                let needs: Vec<String> =
                    (0..i).filter(|n| needs >> n & 1 == 1).map(|n| format!("j{n}")).collect();
                format!(
                    "  j{i}: {{ needs: [{}], allow_failure: {allow}, when: {}, steps: [{{ run: ls }}] }}\n",
                    needs.join(", "),
                    unwanted != 0
                )
            };
            jobs.into_iter().enumerate().map(job).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever the graph, the outcomes and their order: every job ends exactly once, none starts before all
        /// that it needs has succeeded or may fail, and the run finishes exactly once, last.
        #[test]
        fn every_job_ends_once_and_none_before_its_needs(
            jobs in graphs(),
            choices in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8), 40),
            cancel_at in prop::option::of(0..12_usize),
        ) {
            let plan = plan(&jobs);
            let (mut schedule, mut effects) = Schedule::new(&plan);
            // Through JSON, as a server keeps it between events.
            schedule = serde_json::from_str(&serde_json::to_string(&schedule).unwrap()).unwrap();
            let mut running = BTreeSet::new();
            let mut ended: BTreeMap<JobId, JobOutcome> = BTreeMap::new();
            let mut finished = None;
            for (step, (which, how)) in choices.iter().enumerate() {
                for effect in effects {
                    prop_assert_eq!(finished, None);
                    match effect {
                        Effect::Start(id) => {
                            for need in plan.dependencies(&id) {
                                let may_fail = plan.job(need).unwrap().allow_failure;
                                let outcome = &ended[need];
                                prop_assert!(*outcome == JobOutcome::Succeeded || (may_fail && *outcome == JobOutcome::Failed));
                            }
                            prop_assert!(!ended.contains_key(&id) && running.insert(id));
                        }
                        Effect::Stop(id) => prop_assert!(running.contains(&id)),
                        Effect::Ended { job, outcome } => {
                            prop_assert!(!running.contains(&job));
                            prop_assert_eq!(ended.insert(job, outcome), None);
                        }
                        Effect::Finish(outcome) => finished = Some(outcome),
                    }
                }
                effects = Vec::new();
                if cancel_at == Some(step) {
                    effects.extend(schedule.apply(ScheduleEvent::Cancel).unwrap());
                } else if !running.is_empty() {
                    let job = running.iter().nth(which.index(running.len())).unwrap().clone();
                    running.remove(&job);
                    let outcomes = [JobOutcome::Succeeded, JobOutcome::Failed, JobOutcome::Cancelled];
                    let outcome = outcomes[usize::from(*how)].clone();
                    prop_assert_eq!(ended.insert(job.clone(), outcome.clone()), None);
                    effects.extend(schedule.apply(ScheduleEvent::Ended { job, outcome }).unwrap());
                }
            }
            prop_assert!(finished.is_some());
            prop_assert_eq!(ended.len(), plan.jobs.len());
            prop_assert_eq!(schedule.outcome(), finished);
        }
    }
}
