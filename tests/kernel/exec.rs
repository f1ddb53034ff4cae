//! Processes added to containers that are about to end.

use engine_runtime::spec::Process;
use engine_runtime::{Client, ClientError, ExecStreams};

use crate::runtime::{Box, capture};

/// How many containers end while processes are added to them; the kernel's answers depend on how far it has come.
const CONTAINERS: usize = 40;

#[test]
fn an_exec_into_a_container_that_ends_says_that_it_does_not_run() {
    let world = Box::new();
    let process = Process {
        args: vec!["true".into()],
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        ..Process::default()
    };
    for number in 0..CONTAINERS {
        let spec = world.spec(&["usleep", &(5_000 + number * 250).to_string()]);
        let _init = world.start(&spec).unwrap();
        let error = loop {
            let (streams, _output) = capture();
            let client = Client::connect(&spec.run_dir);
            match client.and_then(|client| client.exec(&process, false, ExecStreams::Direct(streams))) {
                Ok(running) => drop(running.wait().unwrap()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, ClientError::NotRunning), "{error:?}");
    }
}
