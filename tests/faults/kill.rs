//! `worker run` killed at many moments: what it leaves, the next run takes down.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::left::{nothing_is_left, supervisors};
use crate::machine::{Machine, PATIENCE, Run, text};
use crate::slow_registry::SlowRegistry;

/// How often each phase is met.
const ROUNDS: u32 = 8;
/// How many runs may be started for that; some end before they are killed.
const ATTEMPTS_MAX: u32 = 4 * ROUNDS;
/// Repeats a run of this suite whose output names it.
const SEED_VARIABLE: &str = "FAULTS_SEED";

/// Marsaglia's xorshift: what matters is that a seed repeats the delays.
struct Random(u64);

impl Random {
    fn from_environment() -> Self {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = std::env::var(SEED_VARIABLE).ok().map_or(now, |seed| seed.parse().unwrap());
        say(&format!("{SEED_VARIABLE}={seed}"));
        Self(seed | 1)
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        longest * u32::try_from(self.0 >> 40).unwrap() / (1 << 24)
    }
}

/// Goes past the capture of test output: a number that nobody sees is none.
fn say(line: &str) {
    _ = writeln!(std::io::stderr(), "faults: {line}");
}

/// Kills runs of a pipeline once `begun` has seen its phase, a random delay later, and proves each time that the next
/// run leaves nothing of the dead one.
fn kill_rounds(
    machine: &Machine,
    phase: &str,
    mut longest: Duration,
    mut pipeline: impl FnMut(u32) -> PathBuf,
    mut begun: impl FnMut(&mut Run),
) {
    let mut random = Random::from_environment();
    let mut clean: Vec<_> = (0..3).map(|_| machine.sweep_by_a_run()).collect();
    clean.sort();
    let (mut killed, mut sweeps) = (0, Vec::new());
    for round in 0..ATTEMPTS_MAX {
        let pipeline = pipeline(round);
        let mut run = machine.start(&pipeline);
        begun(&mut run);
        let delay = random.up_to(longest);
        // Not for anything to happen: the moment of death is what is being varied.
        std::thread::sleep(delay);
        if run.kill() {
            killed += 1;
        } else {
            longest /= 2; // it was faster than its killer
        }
        sweeps.push(machine.sweep_by_a_run().saturating_sub(clean[1]));
        nothing_is_left(machine);
        if killed == ROUNDS {
            break;
        }
    }
    assert_eq!(killed, ROUNDS, "the other runs had ended before they were killed");
    sweeps.sort();
    let (median, worst) = (sweeps[sweeps.len() / 2], sweeps[sweeps.len() - 1]);
    say(&format!(
        "{phase}: {killed} kills; taking a dead run down adds {median:.1?} (median), {worst:.1?} (longest) to the next"
    ));
}

/// A job whose every command line names the machine.
fn job(machine: &Machine, script: &str) -> String {
    let marker = machine.instance();
    format!(
        "image: {{ build: . }}\njobs:\n  it:\n    services:\n      web:\n        image: busybox:latest\n        \
         command: mkdir -p /www && echo {marker} > /www/index.html && exec httpd -f -p 80 -h /www\n        \
         health: wget -q -O /dev/null http://127.0.0.1/\n    cache:\n      - {{ key: all-$CI_RUN, paths: [kept] }}\n    \
         steps:\n      - name: work\n        run: |\n          echo step-of-{marker}\n          {script}\n"
    )
}

/// A docker-archive of a busybox with a layer that nobody has seen before, made by another engine root.
fn archive_with_noise(machine: &Machine) -> PathBuf {
    let (maker, root) = (Machine::new(), machine.path().join("noisy"));
    tests::busybox_layer(&root);
    let mut noise = vec![0; 1 << 20];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    fs::write(root.join("noise"), noise).unwrap();
    let (tar, archive) = (machine.path().join("noisy.tar"), machine.path().join("noisy-image.tar"));
    let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
    assert!(packed.unwrap().success());
    tests::import_into(maker.root(), maker.run_dir(), &tar, "noisy:latest");
    let saved = maker.engine(&["save", "-o"]).arg(&archive).arg("noisy:latest").output().unwrap();
    assert!(saved.status.success(), "{}", text(&saved));
    fs::remove_dir_all(&root).unwrap();
    archive
}

#[test]
fn killed_while_it_pulls() {
    let (machine, registry) = (Machine::new(), SlowRegistry::start());
    let pipeline = |round| {
        let image = registry.push(&archive_with_noise(&machine), &format!("pulled-{round}:latest"));
        let pipeline =
            format!("image: {image}\njobs: {{it: {{network: none, steps: [{{run: echo pulled}}]}}}}\n");
        machine.checkout("pulling", &[("pipeline.yaml", &pipeline)])
    };
    let begun = |_: &mut Run| {
        let (deadline, before) = (Instant::now() + PATIENCE, registry.passed());
        while registry.passed() == before {
            assert!(Instant::now() < deadline, "the pull never began");
            std::thread::yield_now();
        }
    };
    kill_rounds(&machine, "pull", Duration::from_millis(700), pipeline, begun);
}

#[test]
fn killed_while_it_builds() {
    let machine = Machine::new();
    let dockerfile = format!(
        "FROM busybox:latest\nRUN echo first > /first\nRUN echo build-of-{} && dd if=/dev/zero of=/big bs=1M count=8 \
         && sleep 1000\n",
        machine.instance()
    );
    let files = job(&machine, "true");
    let pipeline = |_| machine.checkout("build", &[("pipeline.yaml", &files), ("Dockerfile", &dockerfile)]);
    let begun = |run: &mut Run| assert!(run.until("build-of-"), "the build ended");
    kill_rounds(&machine, "build", Duration::from_millis(100), pipeline, begun);
}

#[test]
fn killed_while_services_start() {
    let machine = Machine::new();
    let files = job(&machine, "sleep 1000");
    let pipeline = |_| {
        machine.checkout("service", &[("pipeline.yaml", &files), ("Dockerfile", "FROM busybox:latest\n")])
    };
    let begun = |_: &mut Run| {
        let deadline = Instant::now() + PATIENCE;
        while supervisors(&machine).is_empty() {
            assert!(Instant::now() < deadline, "no service ever started");
        }
    };
    kill_rounds(&machine, "service", Duration::from_millis(150), pipeline, begun);
}

#[test]
fn killed_while_a_step_runs() {
    let machine = Machine::new();
    let script = "(sleep 1000 &) && mkdir kept && dd if=/dev/zero of=kept/big bs=1M count=8 && sleep 1000";
    let files = job(&machine, script);
    let pipeline =
        |_| machine.checkout("step", &[("pipeline.yaml", &files), ("Dockerfile", "FROM busybox:latest\n")]);
    let begun = |run: &mut Run| assert!(run.until("step-of-"), "the step ended");
    kill_rounds(&machine, "step", Duration::from_millis(100), pipeline, begun);
}

#[test]
fn killed_while_it_tears_down() {
    let machine = Machine::new();
    let files = job(&machine, "mkdir kept && dd if=/dev/urandom of=kept/big bs=1M count=4");
    let pipeline = |_| {
        machine.checkout("teardown", &[("pipeline.yaml", &files), ("Dockerfile", "FROM busybox:latest\n")])
    };
    let begun = |run: &mut Run| assert!(run.until("step-of-"), "the step never began");
    kill_rounds(&machine, "teardown", Duration::from_millis(400), pipeline, begun);
}

#[test]
fn killed_at_any_moment() {
    let machine = Machine::new();
    let files = job(&machine, "echo all of it");
    let dockerfile = "FROM busybox:latest\nRUN echo one > /one\nRUN echo two > /two\n";
    let pipeline = |round| {
        machine.checkout(
            "any",
            &[
                ("pipeline.yaml", &files),
                ("Dockerfile", &format!("{dockerfile}ENV ROUND={round}\nRUN true\n")),
            ],
        )
    };
    kill_rounds(&machine, "any moment", Duration::from_millis(1500), pipeline, |_| {});
}
