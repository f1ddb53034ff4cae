use super::*;
use crate::Event;

fn pipeline(text: &str) -> Pipeline {
    Pipeline::parse("pipeline.yaml", text)
        .unwrap_or_else(|problems| panic!("{}", crate::render(&problems, false)))
}

fn context() -> Context {
    Context {
        event: Event::Push,
        commit: "c0ffee".into(),
        branch: "main".into(),
        arch: "amd64".into(),
        ..Context::default()
    }
}

fn plan(text: &str) -> Plan {
    pipeline(text).expand(&context()).unwrap()
}

fn one(text: &str) -> Job {
    plan(text).jobs.remove(0)
}

fn ids(ids: &[JobId]) -> Vec<&str> {
    ids.iter().map(JobId::as_str).collect()
}

#[test]
fn a_need_of_a_matrix_is_a_need_of_all_its_jobs() {
    let plan = plan(
        "image: busybox
jobs:
  report: { needs: [test], steps: [{ run: ls }] }
  test: { needs: [lint], matrix: { PG: [15, 16] }, steps: [{ run: ls }] }
  lint: { steps: [{ run: ls }] }",
    );
    let jobs: Vec<_> = plan.jobs.iter().map(|job| (job.id.as_str(), job.name.as_str())).collect();
    assert_eq!(
        jobs,
        [("lint", "lint"), ("test.1", "test (PG=15)"), ("test.2", "test (PG=16)"), ("report", "report")]
    );
    let id = |n: usize| &plan.jobs[n].id;
    assert_eq!(ids(plan.dependencies(id(0))), [] as [&str; 0]);
    assert_eq!(ids(plan.dependencies(id(2))), ["lint"]);
    assert_eq!(ids(plan.dependencies(id(3))), ["test.1", "test.2"]);
}

#[test]
fn nearer_variables_win() {
    let job = one("image: busybox
env: { A: pipeline, B: pipeline, C: pipeline, CI_BRANCH: \"not $CI_BRANCH\" }
jobs:
  test:
    env: { B: job, C: job, SEES: \"$A $B $C $M $CI_JOB_NAME\" }
    matrix: { C: [matrix], M: [\"$A\"] }
    steps: [{ run: ls, env: { C: step, OWN: \"$C $SEES\" } }]");
    let env = |name: &str| job.env[name].as_str();
    assert_eq!([env("A"), env("B"), env("C"), env("M")], ["pipeline", "job", "matrix", "$A"]);
    assert_eq!(env("CI_BRANCH"), "not main");
    // A value sees the levels that are complete before its own, and the matrix.
    assert_eq!(env("SEES"), "pipeline pipeline matrix $A test (C=matrix, M=$A)");
    let step = job.step_env(&job.steps[0]);
    assert_eq!(step["C"], "step");
    assert_eq!(step["OWN"], format!("matrix {}", env("SEES")));
    assert_eq!(env("CI_JOB"), "test.1");
}

#[test]
fn variables_are_replaced_where_they_are_read_and_not_in_scripts() {
    let job = one("jobs:
  test:
    matrix: { PG: [16], IMAGE: [\"busybox:latest\"] }
    image: { build: { context: ., args: { BASE: $IMAGE } } }
    services:
      db: { image: \"postgres:$PG\", env: { VERSION: \"v${PG}\" }, command: echo $PG }
    cache: [{ key: \"$CI_ARCH-$PG-${hash:Cargo.lock}\", paths: [target] }]
    steps: [{ run: \"echo $PG $NOTHING ${X:-1}\" }]");
    let Image::Build { build } = &job.image else { panic!("{:?}", job.image) };
    assert_eq!(build.args["BASE"], "busybox:latest");
    assert_eq!(job.services["db"].image, Image::Reference("postgres:16".into()));
    assert_eq!(job.services["db"].env["VERSION"], "v16");
    assert_eq!(job.services["db"].command, Some(crate::Command::Shell("echo $PG".into())));
    assert_eq!(
        job.caches[0].key.resolve(|pattern| Ok::<_, ()>(pattern.len().to_string())),
        Ok("amd64-16-10".into())
    );
    assert_eq!(job.steps[0].run, "echo $PG $NOTHING ${X:-1}");
}

#[test]
fn the_concurrency_group_is_the_branchs() {
    let plan = plan(
        "image: a\nconcurrency: { group: \"d-$CI_BRANCH\", cancel: true }\njobs: { a: { steps: [{ run: ls }] } }",
    );
    assert_eq!(plan.concurrency, Some(ConcurrencyGroup { group: "d-main".into(), cancel: true }));
    assert_eq!(plan.name, "pipeline");
}

#[test]
fn a_variable_that_one_combination_lacks_is_named() {
    let text = "jobs:
  test:
    image: busybox:$TAG
    matrix: { A: [1, 2], include: [{ A: 1, TAG: latest }] }
    steps: [{ run: ls }]";
    let error = pipeline(text).expand(&context()).unwrap_err();
    assert_eq!(error.to_string(), "job `test (A=2)`: image");
    let ExpandError::Substitute { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.to_string(), "undefined variable `TAG`");
}

#[test]
fn an_image_that_comes_to_nothing_is_named() {
    let error = pipeline("image: busybox:$CI_TAG\njobs: { a: { steps: [{ run: ls }] } }").expand(&context());
    assert_eq!(error.unwrap_err().to_string(), "job `a`: `busybox:` is not an image reference");
}

#[test]
fn a_job_whose_condition_does_not_hold_is_not_wanted() {
    let plan = plan(
        "image: busybox
jobs:
  a: { when: branch == \"main\", steps: [{ run: ls }] }
  b: { when: pr, steps: [{ run: ls }] }
  c: { when: matrix.V == \"2\", matrix: { V: [1, 2] }, steps: [{ run: ls }] }
  d: { when: false, steps: [{ run: ls }] }",
    );
    let wanted: Vec<_> = plan.jobs.iter().map(|job| (job.id.as_str(), job.wanted)).collect();
    assert_eq!(wanted, [("a", true), ("b", false), ("c.1", false), ("c.2", true), ("d", false)]);
}

#[test]
fn a_condition_without_an_answer_is_an_error() {
    let error =
        pipeline("image: a\njobs: { a: { when: env.NO == \"1\", steps: [{ run: ls }] } }").expand(&context());
    assert!(matches!(error, Err(ExpandError::Condition { job, .. }) if job == "a"));
}

#[test]
fn after_a_failure_only_steps_run_that_ask_for_it() {
    let job = one("image: busybox
jobs:
  a:
    steps:
      - run: plain
      - { run: always, when: \"true\" }
      - { run: cleanup, when: status == \"failure\" }
      - { run: both, when: status != \"\" && branch == \"main\" }
      - { run: own, when: env.OWN == \"1\", env: { OWN: 1 } }");
    let run = |status| -> Vec<&str> {
        job.steps
            .iter()
            .filter(|step| job.runs_step(step, status).unwrap())
            .map(|step| step.run.as_str())
            .collect()
    };
    assert_eq!(run(Status::Success), ["plain", "always", "both", "own"]);
    assert_eq!(run(Status::Failure), ["cleanup", "both"]);
}

#[test]
fn post_steps_follow_the_outcome() {
    let job = one("image: busybox
jobs:
  a:
    steps: [{ run: ls }]
    post: { always: [{ run: always }], success: [{ run: good }], failure: [{ run: bad }] }");
    let run = |status| -> Vec<&str> { job.post_steps(status).map(|step| step.run.as_str()).collect() };
    assert_eq!(run(Status::Success), ["good", "always"]);
    assert_eq!(run(Status::Failure), ["bad", "always"]);
}

#[test]
fn numbers_are_text_as_written() {
    let job = one(
        "image: busybox\nenv: { A: 1.10, B: 0x1F, C: true, D: 1e3, E: 007 }\njobs: { a: { steps: [{ run: ls }] } }",
    );
    let values: Vec<_> = ["A", "B", "C", "D", "E"].iter().map(|name| job.env[*name].as_str()).collect();
    assert_eq!(values, ["1.10", "0x1F", "true", "1e3", "007"]);
}

#[test]
fn anchors_and_merges_are_yaml() {
    let plan = plan(
        "image: busybox
jobs:
  a: &a { env: &env { V: 1.10 }, steps: [{ run: ls }] }
  b: { <<: *a, timeout: 5m }
  c: { env: *env, steps: [{ run: ls }] }",
    );
    let values: Vec<_> = plan.jobs.iter().map(|job| job.env["V"].as_str()).collect();
    assert_eq!(values, ["1.10", "1.10", "1.10"]);
}

#[test]
fn a_plan_that_multiplies_its_variables_is_refused() {
    let values: Vec<String> = (0..256).map(|n| n.to_string()).collect();
    let text = format!(
        "image: busybox\nenv: {{ A: {} }}\njobs: {{ a: {{ env: {{ B: {} }}, matrix: {{ M: [{}] }}, steps: [{{ run: ls, env: {{ C: $B, D: $B, E: $B }} }}] }} }}",
        "x".repeat(1000),
        "$A".repeat(100),
        values.join(", ")
    );
    assert_eq!(pipeline(&text).expand(&context()), Err(ExpandError::TooLarge));
}
