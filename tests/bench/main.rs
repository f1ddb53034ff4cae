//! Times whole commands on the hot paths, beside a Docker where one answers. Prints a table, and writes the same as
//! JSON to `target/bench.json`. Asserts nothing: what is fast enough is for readers to say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that cannot be made ends the bench, and its output is its purpose"
)]

mod subject;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use subject::Subject;
use table::{Row, print};
use tests::World;

/// Repetitions of each measurement, after one that does not count.
const REPETITIONS: usize = 15;
/// Containers at once.
const MANY: usize = 50;

fn main() {
    let images = images_dir();
    let world = World::new();
    let ours = Subject::lighter(world.path(), &images);
    let docker = Subject::docker(&images);
    if docker.is_none() {
        println!("no Docker answers here: Lighter alone is timed");
    }
    let mut rows = Vec::new();
    let mut measure = |name: &'static str, one: &dyn Fn(&Subject) -> Duration| {
        rows.push(compare(name, &ours, docker.as_ref(), one));
    };
    measure("run --rm busybox true", &|s| s.time(&["run", "--rm", "busybox:latest", "true"]));
    measure("run --rm --network none busybox true", &|s| {
        s.time(&["run", "--rm", "--network", "none", "busybox:latest", "true"])
    });
    measure("exec true", &exec);
    measure("build, cold", &|s| {
        s.time(&["build", "--quiet", "--no-cache", "--tag", "bench:cold", &project()])
    });
    measure("build, cached", &|s| s.time(&["build", "--quiet", "--tag", "bench:warm", &project()]));
    measure("CI script: build cached, run -d -v, wait, logs, rm", &|s| ci_script(s, true));
    measure("CI script: build cold, run -d -v, wait, logs, rm", &|s| ci_script(s, false));
    rows.push(Row::alone("worker run, build cached (whole job)", medians(|| worker_run(world.path()))));
    let (many_ours, pss) = many(&ours);
    let many_docker = docker.as_ref().map(|docker| many(docker).0);
    rows.push(Row::new("50 x run -d at once", many_ours, many_docker));
    print(&rows, pss, &target_dir().join("bench.json"));
}

/// Times one thing on both, in turn, so that a change of the machine's speed meets both.
fn compare(
    name: &'static str,
    ours: &Subject,
    docker: Option<&Subject>,
    one: &dyn Fn(&Subject) -> Duration,
) -> Row {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for number in 0..=REPETITIONS {
        let own = one(ours);
        let other = docker.map(one);
        if number > 0 {
            a.push(own);
            b.extend(other);
        }
    }
    Row::new(name, median(a), (!b.is_empty()).then(|| median(b)))
}

fn medians(mut one: impl FnMut() -> Duration) -> Duration {
    one();
    median((0..REPETITIONS).map(|_| one()).collect())
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort();
    values[values.len() / 2]
}

fn exec(subject: &Subject) -> Duration {
    let id = subject.output(&["run", "-d", "busybox:latest", "sleep", "1000"]);
    let taken = subject.time(&["exec", id.trim(), "true"]);
    subject.output(&["rm", "-f", id.trim()]);
    taken
}

fn ci_script(subject: &Subject, cached: bool) -> Duration {
    let work = tempfile::tempdir().unwrap();
    let volume = format!("{}:/work", work.path().display());
    let started = Instant::now();
    let mut build = vec!["build", "--quiet", "--tag", "bench:script"];
    if !cached {
        build.push("--no-cache");
    }
    let project = project();
    build.push(&project);
    subject.output(&build);
    let id = subject.output(&[
        "run",
        "-d",
        "-v",
        &volume,
        "bench:script",
        "sh",
        "-c",
        "cat /opt/tool/greeting | tee out",
    ]);
    let id = id.trim();
    assert_eq!(subject.output(&["wait", id]).trim(), "0");
    assert_eq!(subject.output(&["logs", id]).trim(), "hello");
    subject.output(&["rm", id]);
    started.elapsed()
}

fn worker_run(world: &Path) -> Duration {
    let checkout = world.join("checkout");
    if !checkout.exists() {
        let copied = Command::new("cp").arg("-R").arg(project()).arg(&checkout).status().unwrap();
        assert!(copied.success());
    }
    let mut command = Command::new(binary("worker"));
    command.args(["run", "--plain", "pipeline.yaml"]).current_dir(&checkout);
    subject::environment(&mut command, world);
    let started = Instant::now();
    let output = command.output().unwrap();
    let taken = started.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    taken
}

/// Starts many containers at once; how long that took, and the memory of a supervisor with all of them running.
fn many(subject: &Subject) -> (Duration, Option<u64>) {
    let started = Instant::now();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..MANY)
            .map(|_| scope.spawn(|| subject.output(&["run", "-d", "busybox:latest", "sleep", "1000"])))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap().trim().to_owned()).collect()
    });
    let taken = started.elapsed();
    let pss = subject.supervisor_pss();
    for id in ids {
        subject.output(&["rm", "-f", &id]);
    }
    (taken, pss)
}

fn project() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/project").display().to_string()
}

fn images_dir() -> PathBuf {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some("--images"), Some(dir)) => dir.into(),
        _ => target_dir().join("images"),
    }
}

fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

/// A binary of this build, beside this one.
pub(crate) fn binary(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(name)
}
