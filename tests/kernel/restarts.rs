//! Restart policies, as the supervisor applies them.

use std::io::Read;
use std::time::{Duration, Instant};

use engine_runtime::spec::Spec;
use engine_runtime::{Client, ClientError, ExecStreams, LaunchError, RestartPolicy, Running, State, Status};
use rustix::process::Signal;

use crate::runtime::{Box, log_text};

/// How long a container may take to get where it is going.
const PATIENCE: Duration = Duration::from_secs(20);

/// A container that outlives its launcher; killed for good at the test's end.
struct Restarted {
    spec: Spec,
    running: Running,
}

impl Restarted {
    fn start(world: &Box, script: &str, restart: RestartPolicy) -> Self {
        let spec = Spec { restart, tether: false, ..world.spec(&["sh", "-c", script]) };
        let running = world.start(&spec).unwrap_or_else(|e| panic!("{e}"));
        Self { spec, running }
    }

    fn client(&self) -> Client {
        Client::connect(&self.spec.run_dir).unwrap()
    }

    fn state(&self) -> State {
        State::load(&self.spec.state_dir).unwrap().unwrap()
    }

    /// The state once it is as it should be.
    fn await_state(&self, is_it: impl Fn(&State) -> bool) -> State {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state();
            if is_it(&state) {
                return state;
            }
            assert!(Instant::now() < deadline, "{state:?}");
        }
    }

    /// The state after the supervisor has gone.
    fn await_end(&self) -> State {
        loop {
            match Client::connect(&self.spec.run_dir).and_then(Client::wait) {
                Ok(Some(_)) => {}
                Ok(None) | Err(ClientError::NotRunning) => break,
                Err(e) => panic!("{e}"),
            }
        }
        let deadline = Instant::now() + PATIENCE;
        while engine_runtime::is_alive(&self.spec.run_dir).unwrap() {
            assert!(Instant::now() < deadline, "the supervisor stays");
        }
        self.state()
    }

    /// Waits for the log to have a line so many times.
    fn await_lines(&self, line: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.log().iter().filter(|other| *other == line).count() < count {
            assert!(Instant::now() < deadline, "{:?}", self.log());
        }
    }

    /// What a script with all capabilities prints in the running container.
    fn exec(&self, script: &str) -> String {
        let process = engine_runtime::spec::Process {
            args: ["sh", "-c", script].map(String::from).to_vec(),
            env: vec!["PATH=/bin".into()],
            ..Default::default()
        };
        let (streams, mut output) = crate::runtime::capture();
        let exec = self.client().exec(&process, true, ExecStreams::Direct(streams)).unwrap();
        exec.wait().unwrap();
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        text
    }

    fn log(&self) -> Vec<String> {
        log_text(&self.spec.state_dir).lines().map(str::to_owned).collect()
    }
}

impl Drop for Restarted {
    fn drop(&mut self) {
        if let Ok(client) = Client::connect(&self.spec.run_dir) {
            _ = client.stop(Signal::KILL.as_raw());
            _ = client.wait();
        }
    }
}

#[test]
fn a_failing_container_is_restarted_as_often_as_allowed() {
    let world = Box::new();
    let container = Restarted::start(&world, "echo life; exit 3", RestartPolicy::OnFailure(Some(2)));
    let first = container.running.wait().unwrap().unwrap();
    assert_eq!(first.code, 3, "who started it is told of the first end");
    let state = container.await_end();
    assert_eq!((state.status, state.exit_code, state.restart_count), (Status::Exited, Some(3), 2));
    assert!(!state.stopped && state.error.is_none() && state.pid.is_none(), "{state:?}");
    assert_eq!(container.log(), ["life"; 3]);
}

#[test]
fn success_is_no_failure() {
    let world = Box::new();
    let container = Restarted::start(&world, "echo life", RestartPolicy::OnFailure(None));
    let state = container.await_end();
    assert_eq!((state.exit_code, state.restart_count), (Some(0), 0));
    assert_eq!(container.log(), ["life"]);
}

#[test]
fn every_life_has_the_same_network_and_files_and_new_processes() {
    let world = Box::new();
    let script = "trap 'exit 4' HUP; ls /sys/class/net; cat /kept 2>/dev/null; echo of the first life > /kept; \
                  echo ready; sleep 1000 & wait";
    let container = Restarted::start(&world, script, RestartPolicy::Always);
    container.await_lines("ready", 1);
    assert_eq!(container.exec("ip link add twin type bridge"), "");
    container.client().signal(Signal::HUP.as_raw()).unwrap();
    container.await_lines("ready", 2);
    assert_eq!(container.log(), ["lo", "ready", "lo", "twin", "of the first life", "ready"]);
    let state = container.state();
    assert_eq!((state.status, state.restart_count, state.exit_code), (Status::Running, 1, None));
    assert!(state.pid.is_some_and(|pid| pid != container.running.pid), "{state:?}");
    assert!(state.started_at > state.finished_at, "{state:?}");
    let seen = container.exec("ls /sys/class/net; tr '\\0' ' ' < /proc/1/cmdline");
    assert_eq!(seen, "lo\ntwin\nsh -c ".to_owned() + script + " ", "an exec joins the second life");
}

#[test]
fn a_stop_is_the_end() {
    let world = Box::new();
    let script = "trap 'exit 5' TERM; trap 'exit 4' HUP; echo ready; sleep 1000 & wait";
    let container = Restarted::start(&world, script, RestartPolicy::Always);
    container.await_lines("ready", 1);
    // Programs read their configuration again at this one; that this one ends is its failure.
    container.client().signal(Signal::HUP.as_raw()).unwrap();
    container.await_lines("ready", 2);
    assert_eq!(container.state().restart_count, 1);
    container.client().signal(Signal::TERM.as_raw()).unwrap();
    let state = container.await_end();
    assert_eq!((state.status, state.exit_code, state.stopped), (Status::Exited, Some(5), true));
}

#[test]
fn a_container_that_waits_to_be_restarted_can_be_stopped() {
    let world = Box::new();
    let container = Restarted::start(&world, "exit 6", RestartPolicy::UnlessStopped);
    // The pause is 1.6 s by then.
    let waiting =
        container.await_state(|state| state.restart_count == 4 && state.status == Status::Restarting);
    assert_eq!((waiting.exit_code, waiting.pid), (Some(6), None));
    assert!(engine_runtime::is_alive(&container.spec.run_dir).unwrap());
    let client = container.client();
    assert!(matches!(client.signal(Signal::HUP.as_raw()), Err(ClientError::NotRunning)));
    let process = engine_runtime::spec::Process { args: vec!["true".into()], ..Default::default() };
    let (streams, _output) = crate::runtime::capture();
    let exec = container.client().exec(&process, false, ExecStreams::Direct(streams));
    assert!(matches!(exec, Err(ClientError::NotRunning)), "{exec:?}");
    client.stop(Signal::TERM.as_raw()).unwrap();
    let state = container.await_end();
    assert_eq!((state.status, state.exit_code, state.restart_count), (Status::Exited, Some(6), 4));
    assert!(state.stopped);
}

#[test]
fn a_program_that_is_gone_is_not_tried_for_ever() {
    let world = Box::new();
    let container = Restarted::start(&world, "rm /bin/sh; exit 1", RestartPolicy::Always);
    let state = container.await_end();
    assert_eq!((state.status, state.exit_code, state.restart_count), (Status::Exited, Some(127), 0));
    assert_eq!(state.error.as_deref(), Some("exec: \"sh\": executable file not found in $PATH"));
}

#[test]
fn memory_that_ran_out_in_one_life_is_not_the_nexts() {
    let world = Box::new();
    let script =
        "test -e /second && sleep 1000; touch /second; exec dd if=/dev/zero of=/dev/null bs=200M count=1";
    let mut spec =
        Spec { restart: RestartPolicy::Always, tether: false, ..world.spec(&["sh", "-c", script]) };
    spec.resources.memory = Some(32 << 20);
    spec.resources.memory_swap = Some(32 << 20);
    let running = world.start(&spec).unwrap();
    let container = Restarted { spec, running };
    assert!(container.running.wait().unwrap().unwrap().oom_killed);
    let second = container.await_state(|state| state.status == Status::Running && state.restart_count == 1);
    assert!(!second.oom_killed);
    container.client().stop(Signal::KILL.as_raw()).unwrap();
    let state = container.await_end();
    assert_eq!((state.exit_code, state.oom_killed), (Some(137), false));
}

#[test]
fn a_terminal_comes_back() {
    let world = Box::new();
    let mut spec = world.spec(&["sh", "-c", "tty; exit 1"]);
    spec.process.terminal = true;
    let spec = Spec { restart: RestartPolicy::OnFailure(Some(1)), tether: false, ..spec };
    let running = world.start(&spec).unwrap();
    let container = Restarted { spec, running };
    let state = container.await_end();
    assert_eq!((state.exit_code, state.restart_count), (Some(1), 1));
    assert_eq!(container.log(), ["/dev/pts/0"; 2]);
}

#[test]
fn what_depends_on_its_launcher_cannot_be_restarted() {
    let world = Box::new();
    let spec = Spec { restart: RestartPolicy::Always, ..world.spec(&["true"]) };
    match world.start(&spec) {
        Err(LaunchError::Setup(error)) => {
            assert!(error.to_string().contains("cannot be restarted"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// A host command of the spec runs once, at the last end, before anybody is told.
#[test]
fn the_host_is_cleaned_up_once_at_the_very_end() {
    let world = Box::new();
    let mut spec = world.spec(&["sh", "-c", "exit 1"]);
    let file = spec.state_dir.join("cleaned");
    spec.cleanup = Some(engine_runtime::spec::HostCommand {
        program: "/bin/sh".into(),
        args: vec!["-s".into()],
        input: format!("echo cleaned >> {}\n", file.display()),
    });
    let spec = Spec { restart: RestartPolicy::OnFailure(Some(1)), tether: false, ..spec };
    let running = world.start(&spec).unwrap();
    let container = Restarted { spec, running };
    container.running.wait().unwrap().unwrap();
    assert!(!file.exists(), "after the first life");
    container.await_end();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "cleaned\n");
}
