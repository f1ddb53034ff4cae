//! A pipeline in a context: the jobs that it comes to.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::check::is_image_reference;
use crate::condition::{Condition, ConditionError, Facts, Status};
use crate::matrix::{self, Combination};
use crate::model::{
    ArtifactsSpec, Build, Duration, Env, Image, JobSpec, Network, Pipeline, Post, Resources, Service, Step,
};
use crate::variables::{CacheKey, Context, SubstituteError, Template, substitute, substitute_all};

/// How long one attempt of a job may take if it does not say.
pub const DEFAULT_JOB_TIMEOUT: Duration = Duration::from_secs(3600);
/// The most text that a plan may come to, in bytes: variables in every job of a large matrix multiply.
pub const MAX_PLAN_BYTES: usize = 64 * 1024 * 1024;
/// The name of a pipeline that has none.
const DEFAULT_NAME: &str = "pipeline";

/// A job's id within its run: the job's name, with a dot and a number if it comes from a matrix (`test.1`).
///
/// Job names have no dots, so that ids are unique; they may be used in file and container names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(String);

impl JobId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A run's jobs and their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// Which runs may not be under way at once with this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyGroup>,
    /// The jobs, each after those it needs, otherwise in the file's order.
    pub jobs: Vec<Job>,
}

/// A concurrency group, its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcurrencyGroup {
    /// The group's name.
    pub group: String,
    /// Whether this run cancels the group's older ones.
    pub cancel: bool,
}

/// One job with all that is needed to run it, its variables replaced. It is the message from server to worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The job's id within the run.
    pub id: JobId,
    /// The name for people: `test (PG=15)`.
    pub name: String,
    /// The jobs that must have succeeded before.
    #[serde(default)]
    pub needs: Vec<JobId>,
    /// Whether the job's condition holds; if not it is skipped, and so is what needs it.
    pub wanted: bool,
    /// What the run is about.
    pub context: Context,
    /// The job's combination of its matrix.
    #[serde(default)]
    pub matrix: Env,
    /// The image.
    pub image: Image,
    /// The variables of the steps, the standard ones too; secrets are added by the worker.
    pub env: Env,
    /// The containers beside the job, by host name.
    #[serde(default)]
    pub services: IndexMap<String, Service>,
    /// The caches restored before the steps and saved after them.
    #[serde(default)]
    pub caches: Vec<Cache>,
    /// The names of the secrets that become variables.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How many attempts may follow the first.
    pub retry: u8,
    /// Whether the run goes on though the job failed.
    pub allow_failure: bool,
    /// The user the steps run as; the image's where absent.
    #[serde(default)]
    pub user: Option<String>,
    /// The directory the steps start in, from the workspace.
    #[serde(default)]
    pub workdir: Option<String>,
    /// What the container may use.
    #[serde(default)]
    pub resources: Option<Resources>,
    /// What the job can reach.
    #[serde(default)]
    pub network: Network,
    /// What the job does.
    pub steps: Vec<Step>,
    /// What it does afterwards.
    #[serde(default)]
    pub post: Post,
    /// What is kept of it.
    #[serde(default)]
    pub artifacts: Option<ArtifactsSpec>,
}

/// A cache entry, its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// The entry's name, but for the hashes of files.
    pub key: CacheKey,
    /// The files and directories kept.
    pub paths: Vec<String>,
}

/// Why a pipeline could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// A text of a job names a variable that this combination lacks.
    #[error("job `{job}`: {place}")]
    Substitute {
        /// The job's name.
        job: String,
        /// The key whose value it is.
        place: &'static str,
        /// The variable.
        #[source]
        source: SubstituteError,
    },
    /// A text of the pipeline itself names a variable that does not exist.
    #[error("{place}")]
    SubstitutePipeline {
        /// The key whose value it is.
        place: &'static str,
        /// The variable.
        #[source]
        source: SubstituteError,
    },
    /// With its variables replaced, an image's name is none.
    #[error("job `{job}`: `{image}` is not an image reference")]
    Image {
        /// The job's name.
        job: String,
        /// What the name came to.
        image: String,
    },
    /// All jobs together have more text than [`MAX_PLAN_BYTES`].
    #[error("the jobs come to more than {MAX_PLAN_BYTES} bytes: use fewer combinations or shorter variables")]
    TooLarge,
    /// Neither the job nor the pipeline has an image.
    #[error("job `{job}` has no image")]
    NoImage {
        /// The job's name.
        job: String,
    },
    /// The job's condition has no answer.
    #[error("job `{job}`: when")]
    Condition {
        /// The job's name.
        job: String,
        /// Why.
        #[source]
        source: ConditionError,
    },
}

impl Pipeline {
    /// Makes the jobs of a run: matrices multiplied, variables replaced, conditions of jobs answered.
    pub fn expand(&self, context: &Context) -> Result<Plan, ExpandError> {
        let name = self.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
        let mut env = context.variables(&name);
        let in_pipeline = |place| move |source| ExpandError::SubstitutePipeline { place, source };
        let own = substitute_all(&self.env, &env).map_err(in_pipeline("env"))?;
        env.extend(own);
        let concurrency = match &self.concurrency {
            None => None,
            Some(concurrency) => Some(ConcurrencyGroup {
                group: substitute(&concurrency.group, &env).map_err(in_pipeline("concurrency"))?,
                cancel: concurrency.cancel,
            }),
        };
        let instances: IndexMap<&str, Vec<(JobId, Combination)>> =
            self.jobs.iter().map(|(name, job)| (name.as_str(), instances(name, job))).collect();
        let mut jobs = Vec::new();
        let room = Cell::new(MAX_PLAN_BYTES);
        for (name, spec) in &self.jobs {
            let needed = spec.needs.iter().filter_map(|need| instances.get(need.as_str())).flatten();
            let needs: Vec<JobId> = needed.map(|(id, _)| id.clone()).collect();
            for (id, combination) in instances.get(name.as_str()).into_iter().flatten() {
                let expansion = Expansion { pipeline: self, context, spec, id, combination, room: &room };
                jobs.push(expansion.job(name, &needs, env.clone())?);
            }
        }
        Ok(Plan { name, concurrency, jobs: in_order(jobs) })
    }
}

fn instances(name: &str, spec: &JobSpec) -> Vec<(JobId, Combination)> {
    let Some(matrix) = &spec.matrix else { return vec![(JobId(name.to_owned()), Combination::new())] };
    let combinations = matrix.combinations().into_iter().enumerate();
    combinations.map(|(i, combination)| (JobId(format!("{name}.{}", i + 1)), combination)).collect()
}

/// Puts each job after those it needs, moving none that stands so already. Jobs of a cycle, which the check has
/// refused, would be left out.
fn in_order(jobs: Vec<Job>) -> Vec<Job> {
    let mut ordered: Vec<Job> = Vec::with_capacity(jobs.len());
    let mut done = HashSet::new();
    let mut rest = jobs;
    loop {
        let before = rest.len();
        let mut waiting = Vec::new();
        for job in rest {
            if job.needs.iter().all(|need| done.contains(need)) {
                done.insert(job.id.clone());
                ordered.push(job);
            } else {
                waiting.push(job);
            }
        }
        if waiting.len() == before || waiting.is_empty() {
            return ordered;
        }
        rest = waiting;
    }
}

/// One job's expansion.
struct Expansion<'a> {
    pipeline: &'a Pipeline,
    context: &'a Context,
    spec: &'a JobSpec,
    id: &'a JobId,
    combination: &'a Combination,
    /// How many bytes the plan may still take.
    room: &'a Cell<usize>,
}

impl Expansion<'_> {
    fn job(&self, name: &str, needs: &[JobId], pipeline_env: Env) -> Result<Job, ExpandError> {
        let spec = self.spec;
        let name = match matrix::describe(self.combination).as_str() {
            "" => name.to_owned(),
            values => format!("{name} ({values})"),
        };
        let env = self.env(&name, pipeline_env)?;
        let matrix: Env = self.combination.clone().into_iter().collect();
        let wanted = match &spec.when {
            None => true,
            Some(when) => when
                .holds(Facts { context: self.context, env: &env, matrix: &matrix, status: None })
                .map_err(|source| ExpandError::Condition { job: name.clone(), source })?,
        };
        let image = (spec.image.as_ref().or(self.pipeline.image.as_ref()))
            .ok_or_else(|| ExpandError::NoImage { job: name.clone() })?;
        Ok(Job {
            id: self.id.clone(),
            needs: needs.to_vec(),
            wanted,
            context: self.context.clone(),
            image: self.image(&name, image, &env)?,
            services: self.services(&name, &env)?,
            caches: self.caches(&name, &env)?,
            secrets: spec.secrets.clone(),
            timeout: spec.timeout.unwrap_or(DEFAULT_JOB_TIMEOUT),
            retry: spec.retry,
            allow_failure: spec.allow_failure,
            user: spec.user.clone(),
            workdir: spec.workdir.clone(),
            resources: spec.resources.clone(),
            network: spec.network,
            steps: self.steps(&name, &spec.steps, &env)?,
            post: Post {
                always: self.steps(&name, &spec.post.always, &env)?,
                success: self.steps(&name, &spec.post.success, &env)?,
                failure: self.steps(&name, &spec.post.failure, &env)?,
            },
            artifacts: spec.artifacts.clone(),
            name,
            matrix,
            env,
        })
    }

    fn env(&self, name: &str, pipeline_env: Env) -> Result<Env, ExpandError> {
        let mut env = pipeline_env;
        env.insert("CI_JOB".to_owned(), self.id.to_string());
        env.insert("CI_JOB_NAME".to_owned(), name.to_owned());
        // The job's own values see the matrix's, and yet are overridden by them.
        let mut seen = env.clone();
        seen.extend(self.combination.clone());
        env.extend(substitute_all(&self.spec.env, &seen).map_err(in_job(name, "env"))?);
        env.extend(self.combination.clone());
        self.take(0, &env)?;
        Ok(env)
    }

    /// Counts what a part of the job takes.
    fn take(&self, bytes: usize, env: &Env) -> Result<(), ExpandError> {
        let bytes = bytes + env.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.room.set(self.room.get().checked_sub(bytes).ok_or(ExpandError::TooLarge)?);
        Ok(())
    }

    fn image(&self, job: &str, image: &Image, env: &Env) -> Result<Image, ExpandError> {
        Ok(match image {
            Image::Reference(reference) => {
                let image = substitute(reference, env).map_err(in_job(job, "image"))?;
                if !is_image_reference(&image) {
                    return Err(ExpandError::Image { job: job.to_owned(), image });
                }
                Image::Reference(image)
            }
            Image::Build { build } => {
                let args = substitute_all(&build.args, env).map_err(in_job(job, "image"))?;
                Image::Build { build: Build { args, ..build.clone() } }
            }
        })
    }

    fn services(&self, job: &str, env: &Env) -> Result<IndexMap<String, Service>, ExpandError> {
        let expand = |(name, service): (&String, &Service)| {
            let image = self.image(job, &service.image, env)?;
            let env = substitute_all(&service.env, env).map_err(in_job(job, "services"))?;
            self.take(0, &env)?;
            Ok((name.clone(), Service { image, env, ..service.clone() }))
        };
        self.spec.services.iter().map(expand).collect()
    }

    fn caches(&self, job: &str, env: &Env) -> Result<Vec<Cache>, ExpandError> {
        let expand = |cache: &crate::model::CacheSpec| {
            let template = Template::parse(&cache.key).map_err(SubstituteError::from);
            let key = template.and_then(|key| key.substitute(env)).map_err(in_job(job, "cache"))?;
            Ok(Cache { key, paths: cache.paths.clone() })
        };
        self.spec.cache.iter().map(expand).collect()
    }

    fn steps(&self, job: &str, steps: &[Step], env: &Env) -> Result<Vec<Step>, ExpandError> {
        let expand = |step: &Step| {
            let env = substitute_all(&step.env, env).map_err(in_job(job, "steps"))?;
            self.take(step.run.len(), &env)?;
            Ok(Step { env, ..step.clone() })
        };
        steps.iter().map(expand).collect()
    }
}

fn in_job(job: &str, place: &'static str) -> impl FnOnce(SubstituteError) -> ExpandError {
    move |source| ExpandError::Substitute { job: job.to_owned(), place, source }
}

impl Plan {
    /// The job with an id.
    pub fn job(&self, id: &JobId) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id == *id)
    }

    /// The jobs that must have succeeded before the one with this id; none for an unknown id.
    pub fn dependencies(&self, id: &JobId) -> &[JobId] {
        self.job(id).map_or(&[], |job| &job.needs)
    }
}

impl Job {
    /// Whether a step of `steps` runs, the job's steps having gone so far as `status` says.
    ///
    /// After a failure only those run whose condition names `status`.
    pub fn runs_step(&self, step: &Step, status: Status) -> Result<bool, ConditionError> {
        let asks = step.when.as_ref().is_some_and(Condition::names_status);
        if status == Status::Failure && !asks {
            return Ok(false);
        }
        self.condition_holds(step, status)
    }

    /// The post steps for a job that ended so, in order: those of `success` or `failure`, then `always`.
    pub fn post_steps(&self, status: Status) -> impl Iterator<Item = &Step> {
        let first = match status {
            Status::Success => &self.post.success,
            Status::Failure => &self.post.failure,
        };
        first.iter().chain(&self.post.always)
    }

    /// Whether a step's condition holds, if it has one: what decides about a post step.
    pub fn condition_holds(&self, step: &Step, status: Status) -> Result<bool, ConditionError> {
        let Some(when) = &step.when else { return Ok(true) };
        let env = self.step_env(step);
        when.holds(Facts { context: &self.context, env: &env, matrix: &self.matrix, status: Some(status) })
    }

    /// A step's variables: the job's and its own. Secrets go between the two, which is the worker's to do.
    pub fn step_env(&self, step: &Step) -> Env {
        self.env.iter().chain(&step.env).map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests;
