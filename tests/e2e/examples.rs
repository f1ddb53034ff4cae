//! Every pair in `pipelines/examples`: what its README says of the keys is what is checked here.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use engine::Engine;
use engine_types::Paths;
use pipelines::{JobOutcome, Pipeline, RunOutcome};
use serde::Deserialize;
use tests::World;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use worker::cache::CacheStore;
use worker::event::{Event, Reporter};
use worker::runner::{JobReport, RunReport, Settings, run, stop_pair};
use worker::secrets::Secrets;
use worker::source::Source;
use worker::workspace::SnapshotStore;

/// How many examples run at the same time: most of each is waiting.
const PARALLEL: usize = 4;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    outcome: String,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    jobs: BTreeMap<String, ExpectedJob>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedJob {
    outcome: String,
    exit_code: Option<i32>,
    #[serde(default = "once")]
    attempts: u32,
    #[serde(default)]
    log: Vec<String>,
    #[serde(default)]
    log_not: Vec<String>,
    #[serde(default)]
    artifacts: Vec<PathBuf>,
    #[serde(default)]
    artifacts_not: Vec<PathBuf>,
    junit: Option<ExpectedTests>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct ExpectedTests {
    tests: u64,
    failures: u64,
}

fn once() -> u32 {
    1
}

/// What each job wrote, and how it ended.
#[derive(Default)]
struct Capture(Mutex<Captured>);

#[derive(Debug, Default, Clone)]
struct Captured {
    output: BTreeMap<String, Vec<u8>>,
    outcomes: BTreeMap<String, JobOutcome>,
    /// Why jobs failed, and what else was told of them: shown when an example is not as expected.
    told: Vec<String>,
}

impl Reporter for Capture {
    fn report(&self, event: Event) {
        let mut captured = self.0.lock().unwrap();
        match event {
            Event::Output { job, bytes, .. } => {
                captured.output.entry(job.to_string()).or_default().extend(bytes);
            }
            Event::JobEnded { job, outcome, reason, .. } => {
                captured.told.extend(reason.map(|reason| format!("{job}: {reason}")));
                captured.outcomes.insert(job.to_string(), outcome);
            }
            Event::Notice { job, text, .. } => captured.told.push(format!("{job}: {text}")),
            _ => {}
        }
    }
}

/// One example, with directories of its own.
struct Example {
    name: String,
    file: PathBuf,
    expected: Expected,
    dir: PathBuf,
}

/// What came of it.
struct Ended {
    report: RunReport,
    captured: Captured,
    artifacts: PathBuf,
}

impl Example {
    fn read(path: &Path, world: &World) -> Self {
        let examples = examples_dir();
        let name = path.strip_prefix(&examples).unwrap().with_extension("").display().to_string();
        let expected = fs::read_to_string(path.with_extension("expect.yaml"))
            .unwrap_or_else(|e| panic!("{name}.expect.yaml: {e}"));
        let expected =
            serde_saphyr::from_str(&expected).unwrap_or_else(|e| panic!("{name}.expect.yaml: {e}"));
        let dir = world.dir(Path::new("examples").join(&name));
        let file =
            world.dir(Path::new("examples").join(&name).join("source")).join(path.file_name().unwrap());
        fs::copy(path, &file).unwrap();
        Self { name, file, expected, dir }
    }

    async fn run(&self, engine: &Engine) -> Ended {
        let text = fs::read_to_string(&self.file).unwrap();
        let pipeline = Pipeline::parse(&self.name, &text)
            .unwrap_or_else(|diagnostics| panic!("{}", pipelines::render(&diagnostics, false)));
        let source = Source::of(&self.file).unwrap();
        let plan = pipeline.expand(&source.context(pipelines::Event::Manual, "example")).unwrap();
        let session = Arc::new(engine.begin_session().await.unwrap());
        let snapshots = SnapshotStore::open(engine.paths()).unwrap();
        let snapshot = snapshots.take(source.root(), &|| false).unwrap();
        let artifacts = self.dir.join("artifacts");
        let capture = Arc::new(Capture::default());
        // The run can't be stopped once the handle is dropped, and need not be.
        let (_handle, stop) = stop_pair();
        let settings = Settings {
            engine: engine.clone(),
            session: Arc::clone(&session),
            snapshot: Arc::new(snapshot),
            secrets: Arc::new(self.secrets()),
            caches: Arc::new(CacheStore::open(self.dir.join("caches"), source.repo()).unwrap()),
            artifacts: artifacts.clone(),
            registries: engine_image::Registries::default(),
            parallel: 2,
            reporter: Arc::clone(&capture) as Arc<dyn Reporter>,
            stop,
        };
        let report = run(&plan, &settings).await;
        drop(settings);
        engine.end_session(Arc::into_inner(session).unwrap()).await.unwrap();
        let captured = capture.0.lock().unwrap().clone();
        Ended { report, captured, artifacts }
    }

    fn secrets(&self) -> Secrets {
        let path = self.dir.join("secrets");
        let lines: String =
            self.expected.secrets.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut file, lines.as_bytes()).unwrap();
        Secrets::load(Some(&path)).unwrap()
    }

    /// What is not as expected, a line each.
    fn differences(&self, ended: &Ended) -> Vec<String> {
        let mut found = Vec::new();
        let mut same = |what: &str, expected: String, actual: String| {
            if expected != actual {
                found.push(format!("{what}: expected {expected}, was {actual}"));
            }
        };
        let outcome = match ended.report.outcome {
            RunOutcome::Succeeded => "succeeded",
            RunOutcome::Failed => "failed",
            RunOutcome::Cancelled => "cancelled",
        };
        same("outcome", self.expected.outcome.clone(), outcome.to_owned());
        let names = |names: Vec<&String>| format!("{names:?}");
        same(
            "jobs",
            names(self.expected.jobs.keys().collect()),
            names(ended.captured.outcomes.keys().collect()),
        );
        for (id, job) in &self.expected.jobs {
            let outcome = ended.captured.outcomes.get(id).map(outcome_word);
            same(&format!("outcome of {id}"), job.outcome.clone(), outcome.unwrap_or("unknown").to_owned());
            if let Some(report) = ended.job(id) {
                same(&format!("attempts of {id}"), job.attempts.to_string(), report.attempts.to_string());
                same(
                    &format!("exit code of {id}"),
                    format!("{:?}", job.exit_code),
                    format!("{:?}", report.exit_code),
                );
                let tests = report.tests.map(|t| ExpectedTests { tests: t.tests, failures: t.failures });
                same(&format!("tests of {id}"), format!("{:?}", job.junit), format!("{tests:?}"));
            }
        }
        for (id, job) in &self.expected.jobs {
            found.extend(job.output_differences(id, &ended.output(id)));
            found.extend(job.artifact_differences(id, &ended.artifacts.join(id)));
        }
        found
    }
}

impl Ended {
    fn job(&self, id: &str) -> Option<&JobReport> {
        self.report.jobs.iter().find(|(job, _)| job.as_str() == id).map(|(_, report)| report)
    }

    fn output(&self, id: &str) -> String {
        let bytes = self.captured.output.get(id).map(Vec::as_slice).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }
}

impl ExpectedJob {
    fn output_differences(&self, id: &str, output: &str) -> Vec<String> {
        let printed = |text: &&String| output.lines().any(|line| line.contains(text.as_str()));
        let missing = self.log.iter().filter(|text| !printed(text));
        let missing = missing.map(|text| format!("{id} did not print {text:?}"));
        missing
            .chain(self.log_not.iter().filter(printed).map(|text| format!("{id} printed {text:?}")))
            .collect()
    }

    fn artifact_differences(&self, id: &str, dir: &Path) -> Vec<String> {
        let kept = |path: &&PathBuf| dir.join(path).is_file();
        let missing = self.artifacts.iter().filter(|path| !kept(path));
        let missing = missing.map(|path| format!("{id} did not keep {}", path.display()));
        missing
            .chain(self.artifacts_not.iter().filter(kept).map(|path| format!("{id} kept {}", path.display())))
            .collect()
    }
}

fn outcome_word(outcome: &JobOutcome) -> &'static str {
    match outcome {
        JobOutcome::Succeeded => "succeeded",
        JobOutcome::Failed => "failed",
        JobOutcome::Cancelled => "cancelled",
        JobOutcome::Skipped(_) => "skipped",
    }
}

fn examples_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("pipelines").join("examples")
}

/// All pipelines, in order.
fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = [examples_dir(), examples_dir().join("failing")]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .filter(|path| !path.to_string_lossy().ends_with(".expect.yaml"))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_ends_as_expected() {
    let world = World::new();
    for image in ["busybox:latest", "debian:bookworm-slim"] {
        world.import(image);
    }
    let engine = Engine::open(Paths::host(world.root(), world.run_dir())).await.unwrap();
    let room = Arc::new(Semaphore::new(PARALLEL));
    let mut running = JoinSet::new();
    for path in files() {
        let (example, engine, room) = (Example::read(&path, &world), engine.clone(), Arc::clone(&room));
        running.spawn(async move {
            let _permit = room.acquire().await.unwrap();
            let ended = example.run(&engine).await;
            let differences = example.differences(&ended);
            (!differences.is_empty()).then(|| {
                let told = ended.captured.told.join("\n  ");
                format!("{}:\n  {}\n  told:\n  {told}", example.name, differences.join("\n  "))
            })
        });
    }
    let mut failed: Vec<String> = running.join_all().await.into_iter().flatten().collect();
    failed.sort();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    drop(engine);
    world.assert_nothing_is_left();
}
