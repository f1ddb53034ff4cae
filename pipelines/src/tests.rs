//! What concerns the crate as a whole: the examples, the committed schema, and input that means harm.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use crate::{Context, Event, Job, Pipeline, Plan, SCHEMA_PATH, json_schema, render};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The examples' paths and texts.
fn examples() -> Vec<(PathBuf, String)> {
    let folders = [folder().join("examples"), folder().join("examples/failing")];
    let files =
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let mut examples: Vec<_> = files
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.ends_with(".yaml") && !name.ends_with(".expect.yaml")
        })
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    examples.sort();
    assert!(examples.len() >= 18, "the examples were not found");
    examples
}

fn context() -> Context {
    Context {
        event: Event::Manual,
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        branch: "main".into(),
        repo: "owner/shop".into(),
        run: "1".into(),
        arch: "amd64".into(),
        ..Context::default()
    }
}

#[track_caller]
fn parse(path: &Path, text: &str) -> Pipeline {
    Pipeline::parse(&path.display().to_string(), text)
        .unwrap_or_else(|problems| panic!("{}", render(&problems, false)))
}

#[test]
fn the_committed_schema_is_the_generated_one() {
    let committed = fs::read_to_string(folder().join("../").join(SCHEMA_PATH)).unwrap();
    // As values: the order of keys depends on the features that others give serde_json.
    assert!(
        serde_json::from_str::<Value>(&committed).unwrap() == json_schema(),
        "{SCHEMA_PATH} is stale; make it again with: cargo run -p pipelines --example schema > {SCHEMA_PATH}"
    );
}

#[test]
fn editors_accept_the_examples() {
    let validator = jsonschema::draft202012::new(&json_schema()).unwrap();
    for (path, text) in examples() {
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        let problems: Vec<String> = validator.iter_errors(&file).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{}: {problems:?}", path.display());
    }
}

#[test]
fn editors_refuse_what_we_refuse() {
    let validator = jsonschema::draft202012::new(&json_schema()).unwrap();
    for text in [
        "jobs: {}",
        "jobs: { a: { steps: [] } }",
        "jobs: { a: { step: [] } }",
        "jobs: { a b: { steps: [{ run: x }] } }",
    ] {
        assert!(!validator.is_valid(&serde_saphyr::from_str::<Value>(text).unwrap()), "{text}");
        Pipeline::parse("p.yaml", text).unwrap_err();
    }
}

#[test]
fn examples_expand_to_the_jobs_they_expect() {
    for (path, text) in examples() {
        let plan = parse(&path, &text).expand(&context()).unwrap();
        let expectation = fs::read_to_string(path.with_extension("expect.yaml"));
        let expectation = expectation.unwrap_or_else(|_| panic!("{} has no expectation", path.display()));
        let expectation: BTreeMap<String, Value> = serde_saphyr::from_str(&expectation).unwrap();
        let mut expected: Vec<&str> =
            expectation["jobs"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut jobs: Vec<&str> = plan.jobs.iter().map(|job| job.id.as_str()).collect();
        jobs.sort_unstable();
        expected.sort_unstable();
        assert_eq!(jobs, expected, "{}", path.display());
    }
}

/// The format's own example, from the design.
const SHOP: &str = r##"name: shop
on:                                   # what starts it; also: manual, schedule (cron), tag
  push: { branches: [main, "release/*"], paths: ["src/**"] }
  pull_request:
env: { RUST_BACKTRACE: "1" }
image: { build: . }                   # or a reference: debian:bookworm; build takes context, dockerfile, target, args
concurrency: { group: "$CI_BRANCH", cancel: true }

jobs:
  lint:
    steps:
      - run: cargo fmt --check        # shell script, -e; a list is also fine
  test:
    needs: [lint]
    matrix: { PG: ["15", "16"] }      # each value is a variable of the job; include/exclude as elsewhere
    services:
      db:
        image: postgres:$PG
        env: { POSTGRES_PASSWORD: ci }
        health: pg_isready -U postgres   # steps start when it passes
    cache:
      - { key: cargo-$CI_ARCH, paths: [target, ~/.cargo/registry] }
    secrets: [NPM_TOKEN]
    timeout: 30m
    retry: 1
    steps:
      - name: unit
        run: cargo test
        timeout: 10m
      - run: ./integration.sh
        when: branch == "main" && !pr  # CEL
    post:
      always: [ { run: ./collect.sh } ]   # also: success, failure
    artifacts:
      paths: [report/**]
      junit: report/*.xml
"##;

#[test]
fn the_designs_example_is_a_pipeline() {
    let plan = parse(Path::new("pipeline.yaml"), SHOP).expand(&context()).unwrap();
    let names: Vec<&str> = plan.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["lint", "test (PG=15)", "test (PG=16)"]);
    let job = &plan.jobs[2];
    assert_eq!(job.services["db"].image, crate::Image::Reference("postgres:16".into()));
    assert_eq!(job.timeout.to_std().as_secs(), 30 * 60);
    assert!(job.runs_step(&job.steps[1], crate::Status::Success).unwrap());
    let file: Value = serde_saphyr::from_str(SHOP).unwrap();
    assert!(jsonschema::draft202012::new(&json_schema()).unwrap().is_valid(&file));
}

#[test]
fn plans_and_pipelines_survive_the_wire() {
    for (path, text) in examples() {
        let pipeline = parse(&path, &text);
        let json = serde_json::to_string(&pipeline).unwrap();
        assert_eq!(serde_json::from_str::<Pipeline>(&json).unwrap(), pipeline, "{}", path.display());
        // JSON is YAML, and the long form is a form of the file.
        assert_eq!(parse(&path, &json), pipeline, "{}", path.display());
        let plan = pipeline.expand(&context()).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
        for job in plan.jobs {
            assert_eq!(serde_json::from_str::<Job>(&serde_json::to_string(&job).unwrap()).unwrap(), job);
        }
    }
}

/// Reads, shows what is wrong, or expands: all that a stranger's file goes through.
fn digest(text: &str) {
    match Pipeline::parse("pipeline.yaml", text) {
        Err(problems) => {
            let shown = render(&problems, false);
            assert!(!shown.is_empty());
            // The schema admitting what the types do not read would be a gap between the two.
            assert!(!shown.contains("not a pipeline: "), "{shown}\n{text}");
        }
        Ok(pipeline) => {
            if let Ok(plan) = pipeline.expand(&context()) {
                for job in &plan.jobs {
                    assert!(!job.steps.is_empty());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
        digest(&text);
    }

    #[test]
    fn text_of_yaml_signs_is_read_or_refused(text in "[-:{}\\[\\],&*!|>'\"%@`#? \n\tajobs0<.$é]{0,80}") {
        digest(&text);
    }

    #[test]
    fn mutated_examples_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, "[-:{}\\[\\],&*!|>'\" \n$0a]{0,3}"), 1..4),
    ) {
        let examples = examples();
        let mut text: Vec<char> = which.get(&examples).1.chars().collect();
        for (at, removed, inserted) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + removed).min(text.len());
            text.splice(start..end, inserted.chars());
        }
        digest(&text.into_iter().collect::<String>());
    }

    /// Whole values in each other's places: what only types can be confused by.
    #[test]
    fn swapped_values_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let examples = examples();
        let mut file: Value = serde_saphyr::from_str(&which.get(&examples).1).unwrap();
        let paths = pointers(&file, String::new());
        let value = file.pointer(&paths[from.index(paths.len())]).unwrap().clone();
        *file.pointer_mut(&paths[to.index(paths.len())]).unwrap() = value;
        digest(&file.to_string());
    }
}

/// The JSON pointers of all values below this one.
fn pointers(value: &Value, path: String) -> Vec<String> {
    let below: Vec<String> = match value {
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(i, item)| pointers(item, format!("{path}/{i}"))).collect()
        }
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, item)| {
                pointers(item, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")))
            })
            .collect(),
        _ => Vec::new(),
    };
    std::iter::once(path).chain(below).collect()
}
