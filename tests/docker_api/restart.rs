//! What a daemon's end means to containers: nothing.

use std::time::Duration;

use bollard::query_parameters::{EventsOptionsBuilder, LogsOptionsBuilder};
use futures::{StreamExt as _, TryStreamExt as _};

use super::daemon::{Daemon, engine, host, inspect, remove, run, script, wait};

#[tokio::test]
async fn a_killed_daemon_loses_no_output_exit_code_or_event() {
    let mut daemon = Daemon::start();
    let go = daemon.world.dir("go");
    let docker = daemon.docker();
    let waits = |text: &str, remove: bool| {
        script(&format!("echo early; until test -e /go/on; do sleep 0.01; done; {text}"), |body| {
            host(body).binds = Some(vec![format!("{}:/go", go.display())]);
            host(body).auto_remove = Some(remove);
        })
    };
    run(&docker, "kept", waits("echo late; exit 8", false)).await;
    run(&docker, "goes", waits("true", true)).await;
    run(&docker, "stays", script("sleep 100", |_| {})).await;
    let (root, run) = (daemon.world.root(), daemon.world.run_dir());
    daemon.crash(|| {
        std::fs::write(go.join("on"), "").unwrap();
        // Both end while there is no daemon.
        tests::with_engine(&root, &run, async |engine| {
            assert_eq!(engine.wait_container("kept").await.unwrap(), Some(8));
            assert_eq!(engine.wait_container("goes").await.unwrap(), Some(0));
        });
    });
    let docker = daemon.docker();
    assert_eq!(wait(&docker, "kept").await, 8);
    let options = LogsOptionsBuilder::new().stdout(true).build();
    let log: Vec<String> =
        docker.logs("kept", Some(options)).map_ok(|line| line.to_string()).try_collect().await.unwrap();
    assert_eq!(log.concat(), "early\nlate\n");
    assert!(inspect(&docker, "goes").await.is_err(), "it was to go with its end");
    assert!(inspect(&docker, "stays").await.unwrap().state.unwrap().running.unwrap());
    let filters = [("container", vec!["kept"]), ("event", vec!["die"])].into();
    let options = EventsOptionsBuilder::new().since("1").until("9999999999").filters(&filters).build();
    let mut events = docker.events(Some(options));
    let died = tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(died.actor.unwrap().attributes.unwrap()["exitCode"], "8");
    for name in ["kept", "stays"] {
        remove(&docker, name).await;
    }
    daemon.finish();
}

#[tokio::test]
async fn a_daemon_ends_gracefully_and_leaves_containers_running() {
    let mut daemon = Daemon::start();
    let docker = daemon.docker();
    run(&docker, "on", script("sleep 100", |_| {})).await;
    let listed = || engine(&daemon.world, &["ps"]);
    assert!(listed().contains("on"));
    daemon.terminate();
    daemon.world.with_engine(async |engine| {
        assert!(engine.container("on").await.unwrap().running);
        engine.remove_container("on", true).await.unwrap();
    });
    daemon.world.assert_nothing_is_left();
}

/// What an idle daemon may have resident, in KiB. This build is not optimised; the bench counts the real one.
const RESIDENT_MAX: u64 = 40 * 1024;
/// Threads of an idle daemon: its own, and those that SQLite's connections have.
const THREADS_MAX: u64 = 12;

#[test]
fn an_idle_daemon_is_small() {
    let daemon = Daemon::start();
    assert_eq!(daemon.ask("GET", "/info", "").status, 200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', '\t', ' ']).trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    assert!(number("VmRSS") < RESIDENT_MAX, "{} KiB resident", number("VmRSS"));
    assert!(number("Threads") < THREADS_MAX, "{} threads", number("Threads"));
    daemon.finish();
}
