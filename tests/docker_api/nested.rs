//! The engine in one of its own containers.

use serde_json::json;
use tests::{World, built};

use super::daemon::{Daemon, remove, start, wait};
use super::networks::{make, unmake};

/// Starts a daemon, and runs containers by it: on a network, with limits, with a published port.
const SCRIPT: &str = r#"
    set -e
    /engine/engine daemon &
    until [ -S /run/lighter/docker.sock ]; do sleep 0.1; done
    /engine/engine import /images/busybox.tar busybox
    /engine/engine run --rm --memory 64m busybox echo inside
    /engine/engine network create shop
    /engine/engine run -d --name web --network shop -p 8080:80 busybox sh -c 'while :; do echo served | nc -l -p 80; done'
    /engine/engine run --rm --network shop busybox ping -c 1 -W 5 web
    until /engine/engine run --rm --network host busybox nc -w 5 127.0.0.1 8080 </dev/null; do sleep 0.1; done
    /engine/engine rm -f web
    /engine/engine network rm shop
    code=0
    /engine/engine run --rm --network none busybox sh -c 'exit 9' || code=$?
    exit $code
"#;

/// `--privileged` is all that it takes. The container is Debian with the host's own programs, nft and ip among them.
#[tokio::test]
async fn a_privileged_container_runs_the_engine() {
    let world = World::new();
    world.import("debian:bookworm-slim");
    let daemon = Daemon::start_in(world);
    let docker = daemon.docker();
    make(&daemon, &[("outer", "")]);
    let programs = built("engine").parent().unwrap().to_owned();
    let images = programs.with_file_name("images");
    let binds = [
        "/usr:/usr:ro".to_owned(),
        format!("{}:/engine:ro", programs.display()),
        format!("{}:/images:ro", images.display()),
    ];
    let body = json!({
        "Image": "debian:bookworm-slim", "Cmd": ["sh", "-c", SCRIPT],
        // The engine's root cannot be on an overlay.
        "Volumes": {"/var/lib/lighter": {}},
        "HostConfig": {"Privileged": true, "NetworkMode": "outer", "Binds": binds},
    });
    let made = daemon.ask("POST", "/containers/create?name=nested", &body.to_string());
    assert_eq!(made.status, 201, "{made:?}");
    start(&docker, "nested").await.unwrap();
    let code = wait(&docker, "nested").await;
    let log = daemon.ask("GET", "/containers/nested/logs?stdout=1&stderr=1", "").body;
    assert_eq!(code, 9, "{log}");
    for expected in ["inside\n", "1 packets received", "served\n"] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    remove(&docker, "nested").await;
    unmake(daemon, &["outer"]).await;
}
