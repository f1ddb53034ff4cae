use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::image::Registries;
use engine::{Engine, Session};
use pipelines::{Effect, Job, JobId, JobOutcome, Plan, RunOutcome, Schedule, ScheduleEvent};
use tokio::task::JoinSet;

use super::images::Images;
use super::job::{JobReport, run_job};
use super::stop::Stop;
use crate::cache::CacheStore;
use crate::event::{Event, Reporter};
use crate::secrets::Secrets;
use crate::workspace::Snapshot;

/// What all jobs of a run share.
#[derive(Clone)]
pub struct Settings {
    /// The engine.
    pub engine: Engine,
    /// What everything is made in.
    pub session: Arc<Session>,
    /// The sources.
    pub snapshot: Arc<Snapshot>,
    /// All secrets that jobs may ask for.
    pub secrets: Arc<Secrets>,
    /// Where caches are kept between runs.
    pub caches: Arc<CacheStore>,
    /// Where artifacts go, one directory a job.
    pub artifacts: PathBuf,
    /// Where images are pulled from.
    pub registries: Registries,
    /// How many jobs run at the same time.
    pub parallel: usize,
    /// Who is told what happens.
    pub reporter: Arc<dyn Reporter>,
    /// When to stop.
    pub stop: Stop,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// How.
    pub outcome: RunOutcome,
    /// Every job that started.
    pub jobs: HashMap<JobId, JobReport>,
}

/// Runs all jobs of a plan to their end.
pub async fn run(plan: &Plan, settings: &Settings) -> RunReport {
    let started = Instant::now();
    let jobs = plan.jobs.iter().map(|job| (job.id.clone(), job.name.clone())).collect();
    settings.reporter.report(Event::RunStarted { name: plan.name.clone(), jobs });
    let (schedule, effects) = Schedule::new(plan);
    let runner = Runner {
        plan,
        settings,
        images: Arc::new(Images::new(settings)),
        schedule,
        ready: VecDeque::new(),
        running: JoinSet::new(),
        reports: HashMap::new(),
    };
    let (outcome, jobs) = runner.drive(effects).await;
    settings.reporter.report(Event::RunEnded { outcome, duration: started.elapsed() });
    RunReport { outcome, jobs }
}

struct Runner<'a> {
    plan: &'a Plan,
    settings: &'a Settings,
    images: Arc<Images>,
    schedule: Schedule,
    /// Jobs that may start and wait for room.
    ready: VecDeque<JobId>,
    running: JoinSet<(JobId, JobReport)>,
    reports: HashMap<JobId, JobReport>,
}

impl Runner<'_> {
    async fn drive(mut self, effects: Vec<Effect>) -> (RunOutcome, HashMap<JobId, JobReport>) {
        let mut finished = self.take(effects);
        let stop = self.settings.stop.clone();
        let mut stopping = false;
        loop {
            if let Some(outcome) = finished {
                return (outcome, self.reports);
            }
            self.fill();
            let event = tokio::select! {
                Some(ended) = self.running.join_next() => self.ended(ended),
                () = stop.requested(), if !stopping => {
                    stopping = true;
                    ScheduleEvent::Cancel
                }
            };
            match self.schedule.apply(event) {
                Ok(effects) => finished = self.take(effects),
                // The schedule and this loop disagree about what runs: a defect, not something to go on from.
                Err(error) => unreachable!("{error}"),
            }
        }
    }

    fn ended(&mut self, ended: Result<(JobId, JobReport), tokio::task::JoinError>) -> ScheduleEvent {
        match ended {
            Ok((job, report)) => {
                let outcome = report.outcome.clone();
                self.reports.insert(job.clone(), report);
                ScheduleEvent::Ended { job, outcome }
            }
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Notes what the schedule wants; the outcome once all is over.
    fn take(&mut self, effects: Vec<Effect>) -> Option<RunOutcome> {
        let mut finished = None;
        for effect in effects {
            match effect {
                Effect::Start(job) => self.ready.push_back(job),
                // Jobs watch the stop signal themselves; one that waits for room ends when its turn comes.
                Effect::Stop(_) => {}
                Effect::Ended { job, outcome } => self.settings.reporter.report(Event::JobEnded {
                    job,
                    outcome,
                    duration: Duration::ZERO,
                    tests: None,
                    reason: None,
                }),
                Effect::Finish(outcome) => finished = Some(outcome),
            }
        }
        finished
    }

    fn fill(&mut self) {
        while self.running.len() < self.settings.parallel.max(1) {
            let Some(id) = self.ready.pop_front() else { return };
            let Some(job) = self.plan.jobs.iter().find(|job| job.id == id) else { continue };
            let job: Job = job.clone();
            let (settings, images) = (self.settings.clone(), Arc::clone(&self.images));
            self.running.spawn(async move {
                let report = run_job(&job, &settings, &images).await;
                (job.id, report)
            });
        }
    }
}

impl RunReport {
    /// Whether no job failed but those that may.
    pub fn succeeded(&self) -> bool {
        self.outcome == RunOutcome::Succeeded
    }
}

/// The outcome of a job that was stopped before it began.
pub(super) fn cancelled() -> JobReport {
    JobReport { outcome: JobOutcome::Cancelled, attempts: 0, steps: Vec::new(), exit_code: None, tests: None }
}
