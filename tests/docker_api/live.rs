//! What is asked of containers while they run.

use std::time::{Duration, Instant};

use bollard::models::{ContainerStateStatusEnum, ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum};
use bollard::query_parameters::{StatsOptionsBuilder, TopOptionsBuilder};
use futures::StreamExt as _;

use super::daemon::{Daemon, create, host, inspect, remove, script, start};

/// How long a restart may take on a busy machine.
const RESTART_MAX: Duration = Duration::from_secs(30);
/// Counts as long as it is let.
const COUNT: &str = "n=0; while :; do n=$((n + 1)); echo $n >/count; sleep 0.01; done";

#[tokio::test]
async fn a_frozen_container_stands_still_until_it_goes_on() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    create(&docker, "web", script(COUNT, |_| {})).await;
    assert_eq!(daemon.ask("POST", "/containers/web/pause", "").status, 409);
    start(&docker, "web").await.unwrap();
    docker.pause_container("web").await.unwrap();
    let state = inspect(&docker, "web").await.unwrap().state.unwrap();
    assert_eq!((state.status, state.running), (Some(ContainerStateStatusEnum::PAUSED), Some(true)));
    let ps = daemon.ask("GET", "/containers/json?filters=%7B%22status%22%3A%5B%22paused%22%5D%7D", "");
    assert!(ps.body.contains("(Paused)"), "{}", ps.body);
    let processes = docker.top_processes("web", None::<bollard::query_parameters::TopOptions>).await.unwrap();
    let titles = processes.titles.unwrap();
    let pid = titles.iter().position(|title| title == "PID").unwrap();
    for row in processes.processes.unwrap() {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", row[pid])).unwrap();
        assert!(!stat.contains(") R "), "it runs: {stat}");
    }
    for (path, status, says) in [
        ("pause", 409, "is already paused"),
        ("start", 409, "cannot start a paused container, try unpause instead"),
        ("exec", 409, "is paused, unpause the container before exec"),
    ] {
        let answer = daemon.ask("POST", &format!("/containers/web/{path}"), r#"{"Cmd": ["true"]}"#);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.body.contains(says), "{path}: {}", answer.body);
    }
    assert_eq!(daemon.ask("DELETE", "/containers/web", "").status, 409);
    docker.unpause_container("web").await.unwrap();
    assert!(daemon.ask("POST", "/containers/web/unpause", "").body.contains("is not paused"));
    // Who is to end, ends, frozen or not.
    docker.pause_container("web").await.unwrap();
    assert_eq!(daemon.ask("POST", "/containers/web/stop?t=0", "").status, 204);
    start(&docker, "web").await.unwrap();
    docker.pause_container("web").await.unwrap();
    remove(&docker, "web").await;
    daemon.finish();
}

#[tokio::test]
async fn limits_change_while_it_runs() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let body = script("while :; do sleep 0.1; done", |body| host(body).memory = Some(64 << 20));
    create(&docker, "web", body).await;
    let update = |body: ContainerUpdateBody| docker.update_container("web", body);
    // Before the first start as well.
    update(ContainerUpdateBody { pids_limit: Some(50), ..Default::default() }).await.unwrap();
    start(&docker, "web").await.unwrap();
    let always = RestartPolicy { name: Some(RestartPolicyNameEnum::ALWAYS), maximum_retry_count: None };
    let more = ContainerUpdateBody {
        memory: Some(256 << 20),
        memory_swap: Some(300 << 20),
        cpu_shares: Some(512),
        cpuset_cpus: Some("0".to_owned()),
        restart_policy: Some(always),
        ..Default::default()
    };
    update(more).await.unwrap();
    let host = inspect(&docker, "web").await.unwrap().host_config.unwrap();
    assert_eq!((host.memory, host.memory_swap), (Some(256 << 20), Some(300 << 20)));
    assert_eq!((host.cpu_shares, host.pids_limit), (Some(512), Some(50)));
    let stats = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
    let stats = docker.stats("web", Some(stats)).next().await.unwrap().unwrap();
    assert_eq!(stats.memory_stats.unwrap().limit, Some(256 << 20));
    assert_eq!(stats.pids_stats.unwrap().limit, Some(50));
    let seen =
        docker.top_processes("web", Some(TopOptionsBuilder::new().ps_args("-o pid").build())).await.unwrap();
    let pid = seen.processes.unwrap()[0][0].clone();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    // The policy counts for this life.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let reborn = async || {
        let state = inspect(&docker, "web").await.unwrap().state.unwrap();
        state.running == Some(true) && state.pid.is_some_and(|now| now != 0 && now.to_string() != pid)
    };
    let deadline = Instant::now() + RESTART_MAX;
    while !reborn().await {
        assert!(Instant::now() < deadline, "it is not restarted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let too_much = daemon.ask("POST", "/containers/web/update", r#"{"Memory": 400000000}"#);
    assert_eq!(too_much.status, 409, "{}", too_much.body);
    assert!(too_much.body.contains("update the memoryswap at the same time"), "{}", too_much.body);
    assert_eq!(daemon.ask("POST", "/containers/web/update", r#"{"Memory": 5}"#).status, 400);
    assert_eq!(daemon.ask("POST", "/containers/none/update", "{}").status, 404);
    remove(&docker, "web").await;
    daemon.finish();
}

#[tokio::test]
async fn numbers_come_as_they_are_counted() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    assert_eq!(daemon.ask("POST", "/networks/create", r#"{"Name": "shop"}"#).status, 201);
    create(
        &docker,
        "web",
        script("while :; do :; done", |body| host(body).network_mode = Some("shop".to_owned())),
    )
    .await;
    let nothing = daemon.ask("GET", "/containers/web/stats?stream=false", "");
    assert!(nothing.body.contains("\"total_usage\":0"), "{}", nothing.body);
    start(&docker, "web").await.unwrap();
    let mut stream = docker.stats("web", Some(StatsOptionsBuilder::new().stream(true).build()));
    let first = stream.next().await.unwrap().unwrap();
    let second = stream.next().await.unwrap().unwrap();
    let used = |stats: Option<bollard::models::ContainerCpuStats>| {
        let stats = stats.unwrap();
        (stats.cpu_usage.unwrap().total_usage.unwrap(), stats.system_cpu_usage.unwrap_or_default())
    };
    let (was, is) = (used(first.cpu_stats), used(second.cpu_stats));
    assert!(is.0 > was.0 && is.1 > was.1, "{was:?} {is:?}");
    assert_eq!(used(second.precpu_stats), was);
    assert!(second.memory_stats.unwrap().usage.unwrap() > 0);
    assert_eq!(second.pids_stats.unwrap().current, Some(1));
    assert!(second.networks.unwrap().contains_key("eth0"));
    let listed = docker.top_processes("web", None::<bollard::query_parameters::TopOptions>).await.unwrap();
    assert_eq!(listed.processes.unwrap().len(), 1);
    assert_eq!(daemon.ask("GET", "/containers/web/top?ps_args=--nonsense", "").status, 500);
    remove(&docker, "web").await;
    assert!(stream.next().await.is_none(), "it is told of after it is gone");
    assert_eq!(daemon.ask("DELETE", "/networks/shop", "").status, 204);
    daemon.finish();
}
