//! What becomes of a container by itself: ports, restarts, health, and what others start.

use std::collections::HashMap;
use std::io::Read as _;
use std::time::Duration;

use bollard::Docker;
use bollard::models::{
    EventMessage, HealthConfig, NetworkCreateRequest, PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    EventsOptionsBuilder, ListContainersOptionsBuilder, StopContainerOptionsBuilder,
};
use engine::runtime::StdStreams;
use engine::types::Paths;
use engine::{ContainerConfig, Engine, Program};
use futures::{Stream, StreamExt as _};
use serde_json::{Value, json};

use super::daemon::{Daemon, create, host, inspect, remove, run, script, start};

/// How long something may take that happens by itself.
const SOON: Duration = Duration::from_secs(30);

/// Events of containers from the beginning on.
fn events(docker: &Docker) -> impl Stream<Item = EventMessage> + use<> {
    let filter = HashMap::from([("type", vec!["container"])]);
    let options = EventsOptionsBuilder::new().since("1").filters(&filter).build();
    docker.events(Some(options)).map(|event| event.unwrap()).boxed()
}

/// The next so many events, without that of the making.
async fn actions(events: &mut (impl Stream<Item = EventMessage> + Unpin), count: usize) -> Vec<String> {
    let actions = events.map(|event| event.action.unwrap()).filter(|action| {
        let counts = action != "create";
        async move { counts }
    });
    tokio::time::timeout(SOON, actions.take(count).collect()).await.expect("an event is missing")
}

fn published(port: &str, host_port: &str) -> HashMap<String, Option<Vec<PortBinding>>> {
    let binding = PortBinding { host_ip: None, host_port: Some(host_port.to_owned()) };
    HashMap::from([(port.to_owned(), Some(vec![binding]))])
}

#[tokio::test]
async fn published_ports_lead_to_the_container_and_are_shown() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let network = NetworkCreateRequest { name: "shop".to_owned(), ..NetworkCreateRequest::default() };
    docker.create_network(network).await.unwrap();
    let served = |port: &str| {
        script("while :; do echo hello | nc -l -p 80; done", |body| {
            body.exposed_ports = Some(HashMap::from([("81/udp".to_owned(), HashMap::new())]));
            host(body).network_mode = Some("shop".to_owned());
            host(body).port_bindings = Some(published("80/tcp", port));
        })
    };
    run(&docker, "web", served("")).await;
    let ports = inspect(&docker, "web").await.unwrap().network_settings.unwrap().ports.unwrap();
    assert_eq!(ports["81/udp"], None);
    let binding = &ports["80/tcp"].as_ref().unwrap()[0];
    assert_eq!(binding.host_ip.as_deref(), Some("0.0.0.0"));
    let port: u16 = binding.host_port.as_ref().unwrap().parse().unwrap();
    let hear = || {
        let mut heard = String::new();
        let stream = std::net::TcpStream::connect(("127.0.0.1", port));
        stream.and_then(|mut stream| stream.read_to_string(&mut heard)).map(|_| heard)
    };
    let until_served = async {
        while hear().unwrap_or_default() != "hello\n" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, until_served).await.unwrap();

    let listed = |filters: &str| {
        let encoded = filters.replace('"', "%22").replace('{', "%7B").replace('}', "%7D");
        let path = format!("/containers/json?filters={encoded}");
        serde_json::from_str::<Value>(&daemon.ask("GET", &path, "").body).unwrap()
    };
    let all = listed("{}");
    assert_eq!(
        all[0]["Ports"],
        json!([
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": port, "Type": "tcp"},
            {"PrivatePort": 81, "Type": "udp"},
        ])
    );
    for (filters, count) in [
        (format!(r#"{{"publish":["{port}"]}}"#), 1),
        (r#"{"publish":["81/udp"]}"#.to_owned(), 0),
        (r#"{"expose":["81/udp"]}"#.to_owned(), 1),
        (r#"{"is-task":["true"]}"#.to_owned(), 0),
    ] {
        assert_eq!(listed(&filters).as_array().unwrap().len(), count, "{filters}");
    }

    create(&docker, "late", served(&port.to_string())).await;
    let taken = start(&docker, "late").await.unwrap_err().to_string();
    assert!(taken.contains(&format!("Bind for 0.0.0.0:{port} failed: port is already allocated")), "{taken}");
    remove(&docker, "web").await;
    start(&docker, "late").await.unwrap();
    remove(&docker, "late").await;
    docker.remove_network("shop").await.unwrap();
    let body = r#"{"Image":"busybox","HostConfig":{"PortBindings":{"http":[]}}}"#;
    let refused = daemon.ask("POST", "/containers/create", body);
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains(r#"invalid port specification: \"http\""#), "{}", refused.body);
    daemon.finish();
}

#[tokio::test]
async fn a_container_that_fails_is_restarted_as_often_as_it_may() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let mut events = events(&docker);
    let failing = |policy: RestartPolicyNameEnum, count: Option<i64>| {
        script("exit 3", move |body| {
            let policy = RestartPolicy { name: Some(policy), maximum_retry_count: count };
            host(body).restart_policy = Some(policy);
        })
    };
    run(&docker, "retry", failing(RestartPolicyNameEnum::ON_FAILURE, Some(1))).await;
    assert_eq!(actions(&mut events, 4).await, ["start", "die", "start", "die"]);
    let seen = inspect(&docker, "retry").await.unwrap();
    assert_eq!((seen.restart_count, seen.state.unwrap().exit_code), (Some(1), Some(3)));
    let policy = seen.host_config.unwrap().restart_policy.unwrap();
    assert_eq!(policy.maximum_retry_count, Some(1));
    remove(&docker, "retry").await;
    assert_eq!(actions(&mut events, 1).await, ["destroy"]);

    // One that is restarted for ever counts as running, and can be stopped.
    run(&docker, "always", failing(RestartPolicyNameEnum::ALWAYS, None)).await;
    assert_eq!(actions(&mut events, 4).await, ["start", "die", "start", "die"]);
    let state = inspect(&docker, "always").await.unwrap().state.unwrap();
    assert_eq!(state.running, Some(true));
    let stop = StopContainerOptionsBuilder::new().t(20).build();
    docker.stop_container("always", Some(stop)).await.unwrap();
    let state = inspect(&docker, "always").await.unwrap().state.unwrap();
    assert_eq!((state.running, state.restarting), (Some(false), Some(false)));
    remove(&docker, "always").await;
    daemon.finish();
}

#[tokio::test]
async fn health_is_probed_told_and_shown() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let mut events = events(&docker);
    let shared = daemon.world.dir("shared");
    let body = script("sleep 1000", |body| {
        let test = ["CMD-SHELL", "echo probed; test -e /shared/well"].map(str::to_owned).to_vec();
        let interval = Some(20_000_000);
        body.healthcheck =
            Some(HealthConfig { test: Some(test), interval, retries: Some(1), ..HealthConfig::default() });
        host(body).binds = Some(vec![format!("{}:/shared", shared.display())]);
    });
    run(&docker, "web", body).await;
    assert_eq!(actions(&mut events, 2).await, ["start", "health_status: unhealthy"]);
    std::fs::write(shared.join("well"), "").unwrap();
    assert_eq!(actions(&mut events, 1).await, ["health_status: healthy"]);
    let health = inspect(&docker, "web").await.unwrap().state.unwrap().health.unwrap();
    assert_eq!(health.status.unwrap().to_string(), "healthy");
    assert_eq!(health.log.unwrap().last().unwrap().output.as_deref(), Some("probed\n"));
    let named = async |wanted: &str| {
        let filters = HashMap::from([("health", vec![wanted])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        docker.list_containers(Some(options)).await.unwrap()
    };
    assert!(named("healthy").await[0].status.as_ref().unwrap().ends_with(" (healthy)"));
    assert!(named("unhealthy").await.is_empty());
    remove(&docker, "web").await;

    let body = r#"{"Image":"busybox","Healthcheck":{"Test":["CMD","true"],"Interval":10}}"#;
    let refused = daemon.ask("POST", "/containers/create", body);
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("Interval in Healthcheck cannot be less than 1ms"), "{}", refused.body);
    daemon.finish();
}

/// The engine of a daemon's world, in this process.
pub(crate) async fn engine_of(daemon: &Daemon) -> Engine {
    Engine::open(Paths::host(daemon.world.root(), daemon.world.run_dir())).await.unwrap()
}

#[tokio::test]
async fn a_container_that_another_process_starts_is_noticed() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let mut events = events(&docker);
    let engine = engine_of(&daemon).await;
    let image = engine.images().resolve("busybox").unwrap().id;
    let command = Some(["sh", "-c", "exit 5"].map(str::to_owned).to_vec());
    let config = ContainerConfig {
        name: Some("theirs".to_owned()),
        program: Program::Command { entrypoint: Some(Vec::new()), command },
        auto_remove: true,
        ..ContainerConfig::new(image)
    };
    engine.create_container(config).await.unwrap();
    let process = engine.start_container("theirs", StdStreams::Supervised).await.unwrap();
    assert_eq!(process.wait().await.unwrap().code, 5);
    // It may have ended before the daemon came to look; it is gone in any case.
    let gone = async { while inspect(&docker, "theirs").await.is_ok() {} };
    tokio::time::timeout(SOON, gone).await.unwrap();
    assert_eq!(actions(&mut events, 1).await.len(), 1);
    daemon.finish();
}

#[tokio::test]
async fn what_is_to_be_restarted_is_started_with_the_daemon() {
    let mut daemon = Daemon::start();
    let docker = daemon.docker();
    let with = |name: RestartPolicyNameEnum| {
        script("sleep 1000", move |body| {
            let policy = RestartPolicy { name: Some(name), maximum_retry_count: None };
            host(body).restart_policy = Some(policy);
        })
    };
    run(&docker, "always", with(RestartPolicyNameEnum::ALWAYS)).await;
    run(&docker, "stopped", with(RestartPolicyNameEnum::UNLESS_STOPPED)).await;
    run(&docker, "failing", with(RestartPolicyNameEnum::ON_FAILURE)).await;
    run(&docker, "once", script("sleep 1000", |_| {})).await;
    let stop = StopContainerOptionsBuilder::new().t(0).build();
    docker.stop_container("stopped", Some(stop)).await.unwrap();
    // That of a container that has ended is gone a moment later.
    let three = async {
        loop {
            match super::daemon::supervisors(&daemon.world) {
                supervisors if supervisors.len() == 3 => return supervisors,
                _ => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            }
        }
    };
    let supervisors = tokio::time::timeout(SOON, three).await.unwrap();
    daemon.crash(|| {
        // As a power cut does it: none has a word to say.
        for pid in &supervisors {
            rustix::process::kill_process(*pid, rustix::process::Signal::KILL).unwrap();
        }
        for pid in supervisors {
            while rustix::process::test_kill_process(pid).is_ok() {
                std::thread::yield_now();
            }
        }
    });
    let docker = daemon.docker();
    let mut running = Vec::new();
    for name in ["always", "stopped", "failing", "once"] {
        if inspect(&docker, name).await.unwrap().state.unwrap().running.unwrap() {
            running.push(name);
        }
        remove(&docker, name).await;
    }
    assert_eq!(running, ["always", "failing"]);
    daemon.finish();
}
