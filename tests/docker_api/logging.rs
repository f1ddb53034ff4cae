//! Where containers' output goes, and reading it back.

use std::os::unix::net::UnixDatagram;

use bollard::models::{ContainerCreateBody, HostConfigLogConfig};
use tests::World;

use super::daemon::{Daemon, create, host, inspect, remove, run, script, start, wait};

fn log(body: &mut ContainerCreateBody, driver: &str, options: &[(&str, &str)]) {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    host(body).log_config =
        Some(HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(options.collect()) });
}

/// The text of a container's log without its frames.
fn read(daemon: &Daemon, name: &str, query: &str) -> String {
    let answer = daemon.ask("GET", &format!("/containers/{name}/logs?stdout=1&stderr=1{query}"), "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

#[tokio::test]
async fn full_files_are_put_aside_and_followed() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    // Written at once they would be one write, which is not split.
    let text = "n=0; while [ $n -lt 40 ]; do echo line $n; n=$((n + 1)); sleep 0.01; done";
    let body = script(text, |body| {
        body.tty = Some(true);
        log(body, "json-file", &[("max-size", "1k"), ("max-file", "3")]);
    });
    run(&docker, "web", body).await;
    let lines = |from: usize| (from..40).map(|n| format!("line {n}\r\n")).collect::<String>();
    let followed = daemon.ask("GET", "/containers/web/logs?stdout=1&follow=1", "").body;
    let followed: String = followed.split_inclusive('\n').filter(|line| line.starts_with("line")).collect();
    assert_eq!(followed, lines(0));
    assert_eq!(wait(&docker, "web").await, 0);
    let kept = read(&daemon, "web", "");
    assert!(kept.contains("line 39") && !kept.contains("line 0\r"), "{kept}");
    let last = read(&daemon, "web", "&tail=15");
    assert!(last.contains("line 25\r") && !last.contains("line 24\r"), "{last}");
    assert!(!read(&daemon, "web", "&tail=0").contains("line"));
    let path = inspect(&docker, "web").await.unwrap().log_path.unwrap();
    assert!(std::path::Path::new(&format!("{path}.2")).exists());
    assert!(!std::path::Path::new(&format!("{path}.3")).exists());
    remove(&docker, "web").await;
    daemon.finish();
}

#[tokio::test]
async fn output_goes_to_syslog_and_can_be_read_back() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let path = daemon.world.path().join("syslog");
    let syslog = UnixDatagram::bind(&path).unwrap();
    let address = format!("unix://{}", path.display());
    let options = [("syslog-address", address.as_str()), ("syslog-facility", "local0"), ("tag", "{{.Name}}")];
    run(&docker, "web", script("echo hello; echo oh no >&2", |body| log(body, "syslog", &options))).await;
    assert_eq!(wait(&docker, "web").await, 0);
    let mut said = [0; 2].map(|_: i32| {
        let mut buffer = [0; 512];
        let length = syslog.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    said.sort();
    assert!(said[0].starts_with("<131>") && said[0].ends_with("]: oh no"), "{said:?}");
    assert!(
        said[1].starts_with("<134>") && said[1].contains(" web[") && said[1].ends_with("]: hello"),
        "{said:?}"
    );
    let kept = read(&daemon, "web", "");
    assert!(kept.contains("hello\n") && kept.contains("oh no\n"), "{kept}");
    remove(&docker, "web").await;
    drop(syslog);
    std::fs::remove_file(&path).unwrap();
    create(&docker, "late", script("true", |body| log(body, "syslog", &options))).await;
    let error = start(&docker, "late").await.unwrap_err().to_string();
    assert!(error.contains("failed to initialize logging driver: syslog at unix:///"), "{error}");
    remove(&docker, "late").await;
    daemon.finish();
}

#[tokio::test]
async fn drivers_are_the_daemons_unless_the_container_names_one() {
    let world = World::new();
    world.import("busybox:latest");
    let options = ["--log-driver", "json-file", "--log-opt", "tag=all", "--log-opt", "max-size=1m"];
    let daemon = Daemon::start_with(world, &options);
    let docker = daemon.docker();
    let driver = async |name: &str| {
        let config = inspect(&docker, name).await.unwrap().host_config.unwrap().log_config.unwrap();
        let mut options: Vec<_> = config.config.unwrap_or_default().into_iter().collect();
        options.sort();
        (
            config.typ.unwrap(),
            options.into_iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join(" "),
        )
    };
    run(&docker, "plain", script("echo hi", |_| {})).await;
    assert_eq!(driver("plain").await, ("json-file".to_owned(), "max-size=1m tag=all".to_owned()));
    assert_eq!(wait(&docker, "plain").await, 0);
    assert!(read(&daemon, "plain", "&details=1").contains("tag=all hi\n"));
    let body = script("echo hi", |body| log(body, "", &[("max-file", "2")]));
    run(&docker, "more", body).await;
    assert_eq!(driver("more").await, ("json-file".to_owned(), "max-file=2 max-size=1m tag=all".to_owned()));
    run(&docker, "own", script("echo hi", |body| log(body, "local", &[]))).await;
    assert_eq!(driver("own").await, ("local".to_owned(), String::new()));
    run(&docker, "quiet", script("echo hi", |body| log(body, "none", &[]))).await;
    assert_eq!(wait(&docker, "quiet").await, 0);
    let answer = daemon.ask("GET", "/containers/quiet/logs?stdout=1", "");
    assert_eq!((answer.status, answer.body.contains("driver does not support reading")), (501, true));
    for (config, says) in [
        (r#"{"Type": "fluent"}"#, "logger: no log driver named 'fluent' is registered"),
        (r#"{"Type": "json-file", "Config": {"x": "y"}}"#, "unknown log opt 'x' for json-file log driver"),
    ] {
        let body = format!(r#"{{"Image": "busybox", "HostConfig": {{"LogConfig": {config}}}}}"#);
        let answer = daemon.ask("POST", "/containers/create", &body);
        assert_eq!((answer.status, answer.body.contains(says)), (400, true), "{}", answer.body);
    }
    for name in ["plain", "more", "own", "quiet"] {
        remove(&docker, name).await;
    }
    daemon.finish();
}
