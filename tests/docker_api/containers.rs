//! Making, running and looking at containers.

use std::collections::HashMap;

use bollard::models::{ContainerStateStatusEnum, ResourcesUlimits};
use bollard::query_parameters::{
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, ListVolumesOptions, LogsOptionsBuilder,
    RenameContainerOptionsBuilder, RestartContainerOptionsBuilder, StopContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use futures::StreamExt as _;

use super::daemon::{Daemon, create, host, inspect, remove, run, script, start, wait};

#[tokio::test]
async fn a_container_lives_through_its_states() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let id = create(
        &docker,
        "web",
        script("trap 'exit 3' TERM; trap 'exit 4' INT; echo ready; while :; do sleep 0.02; done", |_| {}),
    )
    .await;
    let status = async || {
        let seen = inspect(&docker, "web").await.unwrap();
        let state = seen.state.unwrap();
        (state.status.unwrap(), state.exit_code.unwrap())
    };
    // A signal that comes before its trap is lost on PID 1.
    let ready = async |times: usize| {
        let options = LogsOptionsBuilder::new().stdout(true).follow(true).build();
        assert_eq!(docker.logs("web", Some(options)).take(times).count().await, times);
    };
    assert_eq!(status().await, (ContainerStateStatusEnum::CREATED, 0));
    start(&docker, "web").await.unwrap();
    start(&docker, &id[..12]).await.unwrap(); // 304 is no failure
    assert_eq!(status().await, (ContainerStateStatusEnum::RUNNING, 0));
    ready(1).await;
    let stop = StopContainerOptionsBuilder::new().t(20).build();
    docker.stop_container("web", Some(stop)).await.unwrap();
    assert_eq!(status().await, (ContainerStateStatusEnum::EXITED, 3));
    let restart = RestartContainerOptionsBuilder::new().t(0).build();
    docker.restart_container("web", Some(restart)).await.unwrap();
    assert_eq!(status().await, (ContainerStateStatusEnum::RUNNING, 0));
    ready(2).await;
    let stop = StopContainerOptionsBuilder::new().t(20).signal("INT").build();
    docker.stop_container("web", Some(stop)).await.unwrap();
    assert_eq!(status().await, (ContainerStateStatusEnum::EXITED, 4));
    start(&docker, "web").await.unwrap();
    docker.rename_container("web", RenameContainerOptionsBuilder::new().name("shop").build()).await.unwrap();
    assert!(inspect(&docker, "web").await.is_err());
    let kill = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    docker.kill_container("shop", Some(kill)).await.unwrap();
    assert_eq!(wait(&docker, "shop").await, 137);
    remove(&docker, "shop").await;
    daemon.finish();
}

#[tokio::test]
async fn options_take_effect_inside_and_show_in_inspect() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let shared = daemon.world.dir("shared");
    std::fs::write(shared.join("file"), "from the host").unwrap();
    let text = "hostname; id -u; pwd; echo $GREETING; ulimit -n; cat /shared/file; echo; touch /x 2>&1; \
                grep CapBnd /proc/self/status; grep -c ' /scratch tmpfs' /proc/mounts";
    let body = script(text, |body| {
        body.hostname = Some("inner".to_owned());
        body.user = Some("1000".to_owned());
        body.working_dir = Some("/tmp".to_owned());
        body.env = Some(vec!["GREETING=hello".to_owned()]);
        body.labels = Some(HashMap::from([("tier".to_owned(), "web".to_owned())]));
        let limit = ResourcesUlimits { name: Some("nofile".to_owned()), soft: Some(64), hard: Some(64) };
        let host = host(body);
        host.readonly_rootfs = Some(true);
        host.ulimits = Some(vec![limit]);
        host.binds = Some(vec![format!("{}:/shared:ro", shared.display())]);
        host.tmpfs = Some(HashMap::from([("/scratch".to_owned(), "size=1m".to_owned())]));
        host.cap_drop = Some(vec!["ALL".to_owned()]);
        host.cap_add = Some(["CHOWN", "NET_ADMIN"].map(str::to_owned).to_vec());
        host.memory = Some(64 << 20);
        host.nano_cpus = Some(500_000_000);
        host.pids_limit = Some(50);
    });
    run(&docker, "options", body).await;
    assert_eq!(wait(&docker, "options").await, 0);
    let logs = LogsOptionsBuilder::new().stdout(true).build();
    let lines: Vec<String> = docker
        .logs("options", Some(logs))
        .map(|line| line.unwrap().to_string().trim().to_owned())
        .collect()
        .await;
    let expected = [
        "inner",
        "1000",
        "/tmp",
        "hello",
        "64",
        "from the host",
        "touch: /x: Read-only file system",
        "CapBnd:\t0000000000001001",
        "1",
    ];
    assert_eq!(lines, expected);
    let seen = inspect(&docker, "options").await.unwrap();
    let (config, host) = (seen.config.unwrap(), seen.host_config.unwrap());
    assert_eq!(config.labels.unwrap()["tier"], "web");
    assert_eq!((host.memory, host.nano_cpus, host.pids_limit), (Some(64 << 20), Some(500_000_000), Some(50)));
    assert_eq!(host.cap_add, Some(vec!["CAP_NET_ADMIN".to_owned()]));
    assert_eq!(seen.mounts.unwrap()[0].destination.as_deref(), Some("/shared"));
    remove(&docker, "options").await;
    daemon.finish();
}

#[tokio::test]
async fn auto_remove_is_waited_for_and_takes_volumes_along() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let body = script("exit 4", |body| {
        body.volumes = Some(HashMap::from([("/data".to_owned(), HashMap::new())]));
        host(body).auto_remove = Some(true);
    });
    create(&docker, "short", body).await;
    assert_eq!(docker.list_volumes(None::<ListVolumesOptions>).await.unwrap().volumes.unwrap().len(), 1);
    // As `docker run --rm` does: it waits before it starts.
    let options = WaitContainerOptionsBuilder::new().condition("removed").build();
    let mut removed = docker.wait_container("short", Some(options));
    let (waited, started) = tokio::join!(removed.next(), start(&docker, "short"));
    started.unwrap();
    let waited = waited.unwrap().unwrap_err();
    assert!(matches!(waited, bollard::errors::Error::DockerContainerWaitError { code: 4, .. }), "{waited}");
    assert!(inspect(&docker, "short").await.is_err());
    let until_gone = async {
        while !docker
            .list_volumes(None::<ListVolumesOptions>)
            .await
            .unwrap()
            .volumes
            .unwrap_or_default()
            .is_empty()
        {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), until_gone).await.unwrap();
    daemon.finish();
}

#[tokio::test]
async fn lists_are_narrowed_by_filters() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let labelled = |text: &str| {
        script(text, |body| body.labels = Some(HashMap::from([("a".to_owned(), "b".to_owned())])))
    };
    run(&docker, "running", labelled("sleep 100")).await;
    run(&docker, "ended", script("exit 2", |_| {})).await;
    let created = create(&docker, "created", labelled("true")).await;
    assert_eq!(wait(&docker, "ended").await, 2);
    let names = async |all: bool, filters: &[(&str, &str)]| {
        let filters: HashMap<&str, Vec<&str>> =
            filters.iter().map(|(name, value)| (*name, vec![*value])).collect();
        let options = ListContainersOptionsBuilder::new().all(all).filters(&filters).build();
        let list = docker.list_containers(Some(options)).await.unwrap();
        let mut names: Vec<String> =
            list.into_iter().map(|c| c.names.unwrap()[0].trim_start_matches('/').to_owned()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(false, &[]).await, ["running"]);
    assert_eq!(names(true, &[]).await, ["created", "ended", "running"]);
    assert_eq!(names(true, &[("label", "a=b")]).await, ["created", "running"]);
    assert_eq!(names(false, &[("status", "exited")]).await, ["ended"]);
    assert_eq!(names(true, &[("exited", "2")]).await, ["ended"]);
    assert_eq!(names(true, &[("name", "run")]).await, ["running"]);
    assert_eq!(names(true, &[("id", &created[..12])]).await, ["created"]);
    for name in ["running", "ended", "created"] {
        remove(&docker, name).await;
    }
    daemon.finish();
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_of_the_client() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    create(&docker, "nope", script("", |body| body.cmd = Some(vec!["nope".to_owned()]))).await;
    let failed = start(&docker, "nope").await.unwrap_err();
    let bollard::errors::Error::DockerResponseServerError { status_code, message } = failed else {
        panic!("{failed}")
    };
    assert_eq!(status_code, 400);
    assert!(message.contains("exec: \"nope\": executable file not found in $PATH"), "{message}");
    remove(&docker, "nope").await;
    // The docker command makes 126 of these words.
    create(&docker, "dir", script("", |body| body.cmd = Some(vec!["/etc".to_owned()]))).await;
    let failed = start(&docker, "dir").await.unwrap_err().to_string();
    assert!(failed.contains("exec: \"/etc\": permission denied"), "{failed}");
    remove(&docker, "dir").await;
    daemon.finish();
}
