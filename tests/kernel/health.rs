//! Health probes, as the supervisor runs them.

use std::time::{Duration, Instant};

use engine_runtime::spec::{Process, Spec};
use engine_runtime::{
    Client, ClientError, ExecStreams, Health, HealthCheck, HealthStatus, RestartPolicy, Running, State,
};

use crate::runtime::{Box, capture};

/// How long a verdict may take.
const PATIENCE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(30);

/// A check by a script, often, whose second failure in a row counts.
fn check(script: &str) -> HealthCheck {
    HealthCheck {
        interval: MOMENT,
        retries: 2,
        ..HealthCheck::new(["sh", "-c", script].map(String::from).to_vec())
    }
}

/// A container that lives until it is killed, with its launcher's connection.
fn start(world: &Box, health: HealthCheck) -> (Spec, Running) {
    let spec = Spec { health: Some(health), ..world.spec(&["sleep", "1000"]) };
    let running = world.start(&spec).unwrap_or_else(|e| panic!("{e}"));
    (spec, running)
}

fn exec(spec: &Spec, script: &str) {
    let process = Process {
        args: ["sh", "-c", script].map(String::from).to_vec(),
        env: vec!["PATH=/bin".into()],
        ..Process::default()
    };
    let client = Client::connect(&spec.run_dir).unwrap();
    let exec = client.exec(&process, false, ExecStreams::Direct(capture().0)).unwrap();
    assert_eq!(exec.wait().unwrap().unwrap().code, 0, "{script}");
}

fn health(spec: &Spec) -> Health {
    State::load(&spec.state_dir).unwrap().unwrap().health.unwrap()
}

/// The health once it is as it should be.
fn await_health(spec: &Spec, is_it: impl Fn(&Health) -> bool) -> Health {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let health = health(spec);
        if is_it(&health) {
            return health;
        }
        assert!(Instant::now() < deadline, "{health:?}");
    }
}

#[test]
fn a_client_is_told_of_every_change() {
    let world = Box::new();
    let (spec, _running) = start(&world, check("echo probed; test -e /works"));
    let mut watch = Client::connect(&spec.run_dir).unwrap().watch().unwrap();
    assert_eq!(watch.next_status().unwrap(), Some(HealthStatus::Starting));
    assert_eq!(watch.next_status().unwrap(), Some(HealthStatus::Unhealthy));
    exec(&spec, "touch /works");
    assert_eq!(watch.next_status().unwrap(), Some(HealthStatus::Healthy));
    let seen = await_health(&spec, |health| health.status == HealthStatus::Healthy && health.log.len() == 5);
    assert_eq!(seen.failing_streak, 0);
    let last = seen.log.last().unwrap();
    assert_eq!((last.exit_code, &*last.output), (0, "probed\n"));
    assert!(last.end >= last.start);
    exec(&spec, "rm /works");
    assert_eq!(watch.next_status().unwrap(), Some(HealthStatus::Unhealthy));
    assert!(health(&spec).failing_streak >= 2);
    let mut late = Client::connect(&spec.run_dir).unwrap().watch().unwrap();
    assert_eq!(late.next_status().unwrap(), Some(HealthStatus::Unhealthy), "who comes late is told at once");
    Client::connect(&spec.run_dir).unwrap().signal(9).unwrap();
    assert_eq!((watch.next_status().unwrap(), late.next_status().unwrap()), (None, None), "the end");
}

#[test]
fn a_probe_runs_as_the_containers_user_with_its_environment() {
    let world = Box::new();
    let mut spec = world.spec(&["sleep", "1000"]);
    spec.process.env.push("COLOUR=blue".to_owned());
    (spec.process.user, spec.process.cwd) = ("ann".to_owned(), "/tmp".to_owned());
    spec.health = Some(check("id -un; pwd; echo $COLOUR"));
    let _running = world.start(&spec).unwrap();
    let seen = await_health(&spec, |health| !health.log.is_empty());
    assert_eq!(seen.log[0].output, "ann\n/tmp\nblue\n");
}

#[test]
fn a_probe_that_hangs_is_killed_with_its_children() {
    let world = Box::new();
    let hangs = HealthCheck { timeout: MOMENT * 4, ..check("echo begun; sleep 777 & sleep 777") };
    let (spec, _running) = start(&world, hangs);
    let seen = await_health(&spec, |health| health.status == HealthStatus::Unhealthy);
    let result = &seen.log[0];
    assert_eq!(result.exit_code, -1);
    assert_eq!(result.output, "Health check exceeded timeout (120ms): begun\n");
    assert!(result.end.as_second() - result.start.as_second() < 60);
    // Those of one more probe may run by now, and this one's own.
    exec(&spec, "test $(pgrep -f 'sleep 777' | wc -l) -le 4");
}

#[test]
fn a_probe_that_cannot_be_run_fails() {
    let world = Box::new();
    let missing = HealthCheck { retries: 1, ..check("") };
    let (spec, _running) = start(&world, HealthCheck { args: vec!["no-such-probe".into()], ..missing });
    let seen = await_health(&spec, |health| health.status == HealthStatus::Unhealthy);
    assert_eq!(seen.log[0].exit_code, -1);
    assert_eq!(seen.log[0].output, "exec: \"no-such-probe\": executable file not found in $PATH");
}

#[test]
fn output_without_end_is_cut_off() {
    let world = Box::new();
    let (spec, _running) = start(&world, check("yes | head -c 1000000"));
    let seen = await_health(&spec, |health| !health.log.is_empty());
    assert_eq!((seen.status, seen.log[0].output.len()), (HealthStatus::Healthy, 4096));
}

#[test]
fn the_first_probe_waits_for_its_interval() {
    let world = Box::new();
    let rare = HealthCheck { interval: Duration::from_secs(3600), ..check("touch /probed") };
    let (spec, _running) = start(&world, rare);
    exec(&spec, "test ! -e /probed");
    assert_eq!(health(&spec), Health::default());
    let early = HealthCheck {
        start_period: Duration::from_secs(3600),
        start_interval: MOMENT,
        ..HealthCheck { interval: Duration::from_secs(3600), ..check("false") }
    };
    let (spec, _running) = start(&world, early);
    let seen = await_health(&spec, |health| health.log.len() == 5);
    assert_eq!((seen.status, seen.failing_streak), (HealthStatus::Starting, 0));
}

#[test]
fn every_life_is_probed_anew() {
    let world = Box::new();
    let script = "test -e /second && exec sleep 1000; until test -e /probed; do sleep 0.01; done; touch /second; exit 1";
    let spec = Spec {
        health: Some(HealthCheck { interval: MOMENT * 5, retries: 1, ..check("touch /probed; false") }),
        restart: RestartPolicy::OnFailure(Some(1)),
        tether: false,
        ..world.spec(&["sh", "-c", script])
    };
    let running = world.start(&spec).unwrap();
    running.wait().unwrap().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let second = loop {
        let state = State::load(&spec.state_dir).unwrap().unwrap();
        if state.restart_count == 1 && state.health.as_ref().is_some_and(|health| !health.log.is_empty()) {
            break state;
        }
        assert!(Instant::now() < deadline, "{state:?}");
    };
    let client = Client::connect(&spec.run_dir).unwrap();
    client.stop(9).unwrap();
    // It may have ended before it could be asked.
    assert!(matches!(client.wait(), Ok(_) | Err(ClientError::NotRunning)));
    let probes = second.health.unwrap().log;
    assert!(probes.iter().all(|probe| Some(probe.start) >= second.started_at), "{probes:?}");
}

#[test]
fn without_a_check_there_is_nothing_to_watch() {
    let world = Box::new();
    let spec = world.spec(&["sleep", "1000"]);
    let _running = world.start(&spec).unwrap();
    let refused = Client::connect(&spec.run_dir).unwrap().watch().unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(_)), "{refused}");
    assert_eq!(refused.to_string(), "the container has no health check");
    assert_eq!(State::load(&spec.state_dir).unwrap().unwrap().health, None);
}
