//! What spans several places of a file: needs, matrices, variables, images.

use std::collections::BTreeSet;

use crate::source::{Node, Span, Value};
use crate::suggest::{did_you_mean, list};
use crate::variables::{STANDARD_VARIABLES, Template};
use crate::{Diagnostic, JobSpec, Matrix, Network, Pipeline};

/// The most jobs that one matrix may make: GitHub's limit.
pub const MAX_MATRIX_JOBS: u64 = 256;
/// The most jobs that a pipeline may have in all.
pub const MAX_JOBS: u64 = 1024;

type Names<'a> = BTreeSet<&'a str>;

pub(super) fn check(pipeline: &Pipeline, root: &Node, text: &str) -> Vec<Diagnostic> {
    let mut checker = Checker { pipeline, root, text, problems: Vec::new() };
    if !checker.number_of_jobs() {
        // What follows takes time that grows with the jobs.
        return checker.problems;
    }
    let mut known: Names<'_> = STANDARD_VARIABLES.into_iter().collect();
    checker.values(root.get("env"), &known);
    known.extend(pipeline.env.keys().map(String::as_str));
    if let Some(group) = root.get("concurrency").and_then(|node| node.get("group")) {
        checker.template(group, &known);
    }
    for (name, job) in &pipeline.jobs {
        let Some(node) = root.get("jobs").and_then(|jobs| jobs.get(name)) else { continue };
        checker.needs(name, node);
        checker.image(name, job, node);
        checker.matrix(name, job, node);
        checker.variables(job, node, &known);
    }
    checker.cycle();
    checker.problems
}

struct Checker<'a> {
    pipeline: &'a Pipeline,
    root: &'a Node,
    text: &'a str,
    problems: Vec<Diagnostic>,
}

impl<'a> Checker<'a> {
    fn problem(&mut self, span: &Span, message: String, help: impl Into<String>) {
        self.problems.push(Diagnostic::new(span.clone(), message).with_help(help));
    }

    /// The key of a job in the file.
    fn job_span(&self, job: &str) -> Span {
        let entry = self.root.get("jobs").and_then(|jobs| jobs.entry(job));
        entry.map_or(0..0, |(key, _)| key.span.clone())
    }

    /// Counts the jobs; says whether there are few enough to look at each.
    fn number_of_jobs(&mut self) -> bool {
        // A single matrix that is too large is reported at its place.
        let count =
            |job: &JobSpec| job.matrix.as_ref().map_or(1, |matrix| matrix.count().min(MAX_MATRIX_JOBS));
        let jobs: u64 = self.pipeline.jobs.values().map(count).sum();
        if jobs > MAX_JOBS
            && let Some((key, _)) = self.root.entry("jobs")
        {
            let span = key.span.clone();
            self.problem(
                &span,
                format!("the pipeline has {jobs} jobs"),
                format!("it may have at most {MAX_JOBS}"),
            );
        }
        jobs <= MAX_JOBS
    }

    fn needs(&mut self, name: &str, node: &Node) {
        let Some(needs) = node.get("needs") else { return };
        let mut seen = BTreeSet::new();
        for need in one_or_many(needs) {
            let text = need.text().unwrap_or_default();
            if text == name {
                self.problem(&need.span, format!("the job `{name}` needs itself"), "remove it");
            } else if !self.pipeline.jobs.contains_key(text) {
                let jobs: Vec<_> = self.pipeline.jobs.keys().filter(|job| *job != name).collect();
                let help = did_you_mean(text, jobs.iter().map(|job| job.as_str()))
                    .unwrap_or_else(|| format!("the pipeline's other jobs are {}", list(&jobs)));
                self.problem(&need.span, format!("`{name}` needs the unknown job `{text}`"), help);
            } else if !seen.insert(text) {
                self.problem(&need.span, format!("`{text}` is needed twice"), "remove one of the two");
            }
        }
    }

    /// Reports one cycle: breaking it is what is to be done first.
    fn cycle(&mut self) {
        let Some(cycle) = find_cycle(self.pipeline) else { return };
        let path: Vec<&str> = cycle.iter().copied().chain(cycle.first().copied()).collect();
        let first = cycle.first().copied().unwrap_or_default();
        let node = self.root.get("jobs").and_then(|jobs| jobs.get(first)).and_then(|job| job.get("needs"));
        let need =
            node.and_then(|needs| one_or_many(needs).iter().find(|need| need.text() == path.get(1).copied()));
        let span = need.map_or_else(|| self.job_span(first), |need| need.span.clone());
        self.problem(
            &span,
            format!("jobs need each other: {}", path.join(" → ")),
            "remove one of these needs",
        );
    }

    fn image(&mut self, name: &str, job: &JobSpec, node: &Node) {
        if job.image.is_none() && self.pipeline.image.is_none() {
            let span = self.job_span(name);
            self.problem(
                &span,
                format!("the job `{name}` has no image"),
                "add `image: debian:bookworm-slim`, say, to the job, or to the pipeline for all its jobs",
            );
        }
        if let (Network::None, Some((services, _))) = (job.network, node.entry("services"))
            && !job.services.is_empty()
        {
            let message = format!("the job `{name}` has services but no network to reach them");
            self.problem(&services.span, message, "remove `network: none`, or the services");
        }
    }

    fn matrix(&mut self, name: &str, job: &JobSpec, node: &Node) {
        let (Some(matrix), Some((key, node))) = (&job.matrix, node.entry("matrix")) else { return };
        let count = matrix.count();
        if count > MAX_MATRIX_JOBS {
            let help =
                format!("a matrix makes at most {MAX_MATRIX_JOBS}: leave values out, or split the job");
            self.problem(&key.span, format!("the matrix of `{name}` makes {count} jobs"), help);
        } else if matrix.combinations().is_empty() {
            let help = "give it a variable with values: `PG: [\"15\", \"16\"]`, or exclude less";
            self.problem(&key.span, format!("the matrix of `{name}` makes no job"), help);
        }
        for (variable, _) in
            node.get("exclude").map(Node::items).into_iter().flatten().flat_map(Node::entries)
        {
            if !matrix.variables.contains_key(&variable.name) {
                let known: Vec<_> = matrix.variables.keys().collect();
                let help = did_you_mean(&variable.name, known.iter().map(|name| name.as_str()))
                    .unwrap_or_else(|| format!("the matrix has {}", list(&known)));
                let message =
                    format!("the matrix of `{name}` has no variable `{}` to exclude", variable.name);
                self.problem(&variable.span, message, help);
            }
        }
    }

    /// Checks that all variables that the job's texts name are there.
    fn variables(&mut self, job: &'a JobSpec, node: &Node, pipeline: &Names<'a>) {
        let mut known = pipeline.clone();
        known.extend(job.matrix.iter().flat_map(matrix_names));
        self.values(node.get("env"), &known);
        known.extend(job.env.keys().map(String::as_str));
        match job.image {
            Some(_) => self.image_variables(node.get("image"), &known),
            None => self.image_variables(self.root.get("image"), &known),
        }
        for (_, service) in node.get("services").map(Node::entries).into_iter().flatten() {
            self.image_variables(service.get("image"), &known);
            self.values(service.get("env"), &known);
        }
        for cache in node.get("cache").map(Node::items).into_iter().flatten() {
            if let Some(key) = cache.get("key") {
                self.template(key, &known);
            }
        }
        let post = node.get("post").map(Node::entries).into_iter().flatten().map(|(_, steps)| steps);
        for step in node.get("steps").into_iter().chain(post).flat_map(Node::items) {
            self.values(step.get("env"), &known);
        }
    }

    fn image_variables(&mut self, image: Option<&Node>, known: &Names<'_>) {
        let Some(image) = image else { return };
        if image.text().is_some() {
            self.template(image, known);
        }
        self.values(image.get("build").and_then(|build| build.get("args")), known);
    }

    fn values(&mut self, env: Option<&Node>, known: &Names<'_>) {
        for (_, value) in env.map(Node::entries).into_iter().flatten() {
            self.template(value, known);
        }
    }

    fn template(&mut self, node: &Node, known: &Names<'_>) {
        let Some(Ok(template)) = node.text().map(Template::parse) else { return };
        for name in template.variables().filter(|name| !known.contains(name)) {
            let help = did_you_mean(name, known.iter().copied()).unwrap_or_else(|| {
                "define it in `env`, or write `$$` for a dollar sign; secrets are known to steps only"
                    .to_owned()
            });
            let braced = super::part_of(self.text, &node.span, &format!("${{{name}}}"));
            let span = if braced == node.span {
                super::part_of(self.text, &node.span, &format!("${name}"))
            } else {
                braced
            };
            let problem = Diagnostic::new(span, format!("undefined variable `{name}`")).with_help(help);
            self.problems.push(problem);
        }
    }
}

/// The names of the variables that at least one combination has.
fn matrix_names(matrix: &Matrix) -> impl Iterator<Item = &str> {
    matrix.variables.keys().chain(matrix.include.iter().flat_map(|entry| entry.keys())).map(String::as_str)
}

fn one_or_many(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    }
}

/// The first cycle of two or more jobs, in the order in which they need each other.
fn find_cycle(pipeline: &Pipeline) -> Option<Vec<&str>> {
    let mut finished: Names<'_> = Names::new();
    for start in pipeline.jobs.keys() {
        // The way from the start, each job with the needs that are still to be followed. A stack of its own:
        // a chain may be as long as there are jobs.
        let mut path = vec![(start.as_str(), needs_of(pipeline, start))];
        while let Some((name, needs)) = path.last_mut() {
            let Some(next) = needs.next() else {
                finished.insert(name);
                path.pop();
                continue;
            };
            // A job that needs itself has been reported.
            if next == *name || finished.contains(next) {
                continue;
            }
            if let Some(cycle_start) = path.iter().position(|(job, _)| *job == next) {
                return Some(path[cycle_start..].iter().map(|(job, _)| *job).collect());
            }
            path.push((next, needs_of(pipeline, next)));
        }
    }
    None
}

fn needs_of<'a>(pipeline: &'a Pipeline, job: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    pipeline.jobs.get(job).into_iter().flat_map(|job| job.needs.iter().map(String::as_str))
}
