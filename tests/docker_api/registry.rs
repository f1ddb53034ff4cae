//! Pushing to and pulling from a registry on loopback, Debian's docker-registry.

use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tests::{World, expect_success};

use super::daemon::{Daemon, create, engine, remove, script};

/// Killed when dropped.
struct Registry {
    child: Child,
    address: String,
}

impl Registry {
    fn start(dir: &std::path::Path) -> Self {
        let (config, data) = (dir.join("config.yml"), dir.join("data"));
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '127.0.0.1:0'}}\n\
             storage: {{filesystem: {{rootdirectory: '{}'}}}}\n",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child = child.expect("docker-registry (Debian package docker-registry) must be installed");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let listens = log.find_map(|line| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split(['"', ' ', ',']).next().map(str::to_owned)
        });
        let address = listens.expect("docker-registry ended before it listened");
        // Its log is read on, so that it never blocks on a full pipe.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_pull_tells_its_progress_and_gives_the_image_its_names() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let registry = Registry::start(&daemon.world.dir("registry"));
    let archive = daemon.world.path().join("busybox.tar");
    engine(&daemon.world, &["save", "-o", archive.to_str().unwrap(), "busybox"]);
    let name = format!("{}/shop/box", registry.address);
    let mut push = Command::new("skopeo");
    push.args(["--insecure-policy", "copy", "--dest-tls-verify=false"]);
    push.arg(format!("docker-archive:{}", archive.display())).arg(format!("docker://{name}:1"));
    expect_success(&mut push);
    let before = docker.inspect_image("busybox").await.unwrap().id;
    assert_eq!(daemon.ask("DELETE", "/images/busybox", "").status, 200);
    let pull = async || {
        let options = CreateImageOptionsBuilder::new().from_image(&name).tag("1").build();
        let told = docker.create_image(Some(options), None, None).map(|line| line.unwrap().status.unwrap());
        told.collect::<Vec<String>>().await
    };
    let told = pull().await;
    assert_eq!(told[0], format!("Pulling from {name}"));
    assert!(told.contains(&"Pull complete".to_owned()), "{told:?}");
    assert!(told[told.len() - 2].starts_with("Digest: sha256:"), "{told:?}");
    assert_eq!(told[told.len() - 1], format!("Status: Downloaded newer image for {name}:1"));
    assert_eq!(pull().await.pop().unwrap(), format!("Status: Image is up to date for {name}:1"));
    let image = docker.inspect_image(&format!("{name}:1")).await.unwrap();
    assert_eq!(image.id, before);
    assert!(image.repo_digests.unwrap()[0].starts_with(&format!("{name}@sha256:")));
    create(&docker, "of-it", script("true", |body| body.image = Some(format!("{name}:1")))).await;
    remove(&docker, "of-it").await;
    daemon.finish();
}

/// The statuses of progress, without repeated ones.
fn statuses(lines: &[Value]) -> Vec<String> {
    let mut told: Vec<String> =
        lines.iter().filter_map(|line| line["status"].as_str().map(str::to_owned)).collect();
    told.dedup();
    told
}

#[test]
fn a_pushed_image_comes_back_with_the_same_digests() {
    let daemon = Daemon::start();
    let registry = Registry::start(&daemon.world.dir("registry"));
    let name = format!("{}/shop/app", registry.address);
    let mut archive = tar::Builder::new(Vec::new());
    let text = "FROM busybox\nRUN echo content > /file\nRUN true\n";
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    archive.append_data(&mut header, "Dockerfile", text.as_bytes()).unwrap();
    let built =
        daemon.upload("POST", &format!("/build?t={name}:1&networkmode=none"), &archive.into_inner().unwrap());
    assert!(built.body.contains("Successfully tagged"), "{built:?}");
    let id = || daemon.ask("GET", &format!("/images/{name}:1/json"), "").json()["Id"].clone();
    let before = id();
    let push = || daemon.ask("POST", &format!("/images/{name}/push?tag=1"), "").lines();
    let first = push();
    let told = statuses(&first);
    assert_eq!(told[0], format!("The push refers to repository [{name}]"));
    assert!(told.contains(&"Preparing".to_owned()) && told.contains(&"Pushed".to_owned()), "{told:?}");
    let aux = first.last().unwrap()["aux"].clone();
    let (digest, size) = (aux["Digest"].as_str().unwrap(), &aux["Size"]);
    assert!(told.contains(&format!("1: digest: {digest} size: {size}")), "{told:?}");
    let second = push();
    assert!(statuses(&second).contains(&"Layer already exists".to_owned()), "{second:?}");
    assert_eq!(second.last().unwrap()["aux"], aux, "layers are compressed alike");
    let described = daemon.ask("GET", &format!("/distribution/{name}:1/json"), "").json();
    assert_eq!(
        (&described["Descriptor"]["digest"], &described["Platforms"][0]["os"]),
        (&aux["Digest"], &json!("linux"))
    );
    let tag = format!("/images/{name}:1/tag?repo={}/other/app&tag=2", registry.address);
    assert_eq!(daemon.ask("POST", &tag, "").status, 201);
    let mounted = daemon.ask("POST", &format!("/images/{}/other/app/push", registry.address), "").lines();
    assert!(statuses(&mounted).contains(&"Mounted from shop/app".to_owned()), "{mounted:?}");
    for gone in [format!("{name}:1"), format!("{}/other/app:2", registry.address), "busybox".to_owned()] {
        assert_eq!(daemon.ask("DELETE", &format!("/images/{gone}"), "").status, 200);
    }
    daemon.ask("POST", "/build/prune?all=1", "");
    let pulled = daemon.ask("POST", &format!("/images/create?fromImage={name}&tag=1"), "").lines();
    assert!(statuses(&pulled).contains(&format!("Digest: {digest}")), "{pulled:?}");
    assert_eq!(id(), before);
    daemon.finish();
}

#[test]
fn what_cannot_be_pushed_is_told() {
    let daemon = Daemon::start();
    let missing = daemon.ask("POST", "/images/127.0.0.1:1/none/push?tag=1", "").lines();
    let text = "An image does not exist locally with the tag: 127.0.0.1:1/none";
    assert_eq!(missing.last().unwrap()["error"], text);
    assert_eq!(daemon.ask("POST", "/images/busybox/tag?repo=127.0.0.1:1/x&tag=1", "").status, 201);
    let unreachable = daemon.ask("POST", "/images/127.0.0.1:1/x/push", "").lines();
    let error = unreachable.last().unwrap()["errorDetail"]["message"].as_str().unwrap().to_owned();
    assert!(error.contains("failed to reach registry 127.0.0.1:1"), "{error}");
    assert_eq!(daemon.ask("POST", "/images/A/push", "").status, 400);
    daemon.finish();
}

/// Answers requests with these: status, further headers, body. Gives the requests' heads.
fn stand_in(
    answers: Vec<(u16, &'static str, &'static str)>,
) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let mut heads = Vec::new();
        for (status, headers, body) in answers {
            let mut stream = listener.accept().unwrap().0;
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut line) = (String::new(), String::new());
            while request.read_line(&mut line).unwrap() > 2 {
                head.push_str(&line);
                line.clear();
            }
            heads.push(head);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
        heads
    });
    (address, server)
}

#[test]
fn a_log_in_is_checked_by_the_registry() {
    let daemon = Daemon::start();
    let basic = (401, "WWW-Authenticate: Basic realm=\"r\"\r\n", "");
    let (address, server) = stand_in(vec![basic, (200, "", "{}"), basic, (401, "", "")]);
    let log_in = |password: &str| {
        let body = json!({ "username": "u", "password": password, "serveraddress": address });
        daemon.ask("POST", "/auth", &body.to_string())
    };
    let good = log_in("right");
    assert_eq!((good.status, &good.json()["Status"]), (200, &json!("Login Succeeded")));
    let bad = log_in("wrong");
    assert_eq!(bad.status, 401, "{bad:?}");
    assert!(bad.body.contains("incorrect username or password"), "{bad:?}");
    let heads = server.join().unwrap();
    assert!(heads[1].to_lowercase().contains("authorization: basic dtpyawdoda=="), "{heads:?}");
    assert_eq!(daemon.ask("POST", "/auth", "{}").status, 400);
    daemon.finish();
}

#[test]
fn a_registry_is_searched() {
    let daemon = Daemon::start();
    let body =
        r#"{"results":[{"name":"a/b","description":"d","star_count":3,"is_official":false},{"name":"c"}]}"#;
    let (address, server) = stand_in(vec![(200, "", body)]);
    let filters = "%7B%22stars%22:%5B%222%22%5D%7D";
    let found =
        daemon.ask("GET", &format!("/images/search?term={address}/b&limit=5&filters={filters}"), "").json();
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!((&found[0]["name"], &found[0]["star_count"]), (&json!("a/b"), &json!(3)));
    let head = server.join().unwrap().remove(0);
    assert!(head.starts_with("GET /v1/search?q=b&n=5 "), "{head}");
    let gone = daemon.ask("GET", &format!("/images/search?term={address}/b"), "");
    assert_eq!(gone.status, 503, "{gone:?}");
    assert_eq!(daemon.ask("GET", "/images/search?term=x&limit=1000", "").status, 400);
    daemon.finish();
}

/// How a registry of Debian's package runs in a container.
const DOCKERFILE: &str = "FROM debian:bookworm-slim\nCOPY docker-registry /usr/bin/\nCOPY config.yml /etc/\n\
                          VOLUME /var/lib/registry\nEXPOSE 5000\nENTRYPOINT [\"docker-registry\"]\n\
                          CMD [\"serve\", \"/etc/config.yml\"]\n";
const CONFIG: &str = "version: 0.1\nhttp: {addr: ':5000'}\n\
                      storage: {filesystem: {rootdirectory: /var/lib/registry}}\n";

#[tokio::test]
async fn a_registry_in_a_container_takes_images_and_gives_them_back() {
    let world = World::new();
    world.import("busybox:latest");
    world.import("debian:bookworm-slim");
    let daemon = Daemon::start_in(world);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_path_with_name("/usr/bin/docker-registry", "docker-registry").unwrap();
    for (name, text) in [("Dockerfile", DOCKERFILE), ("config.yml", CONFIG)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let built = daemon.upload("POST", "/build?t=registry&networkmode=none", &archive.into_inner().unwrap());
    assert!(built.body.contains("Successfully tagged registry:latest"), "{built:?}");
    assert_eq!(daemon.ask("POST", "/networks/create", r#"{"Name":"registry"}"#).status, 201);
    let ports = json!({ "5000/tcp": [{ "HostIp": "127.0.0.1" }] });
    let host = json!({ "PortBindings": ports, "NetworkMode": "registry" });
    let body = json!({ "Image": "registry", "HostConfig": host });
    assert_eq!(daemon.ask("POST", "/containers/create?name=registry", &body.to_string()).status, 201);
    let started = daemon.ask("POST", "/containers/registry/start", "");
    assert_eq!(started.status, 204, "{started:?}");
    let seen = daemon.ask("GET", "/containers/registry/json", "").json();
    let address = format!(
        "127.0.0.1:{}",
        seen["NetworkSettings"]["Ports"]["5000/tcp"][0]["HostPort"].as_str().unwrap()
    );
    let answers = || {
        let mut stream = std::net::TcpStream::connect(&address).ok()?;
        stream.write_all(b"GET /v2/ HTTP/1.0\r\n\r\n").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        Some(line.contains("200"))
    };
    while answers() != Some(true) {
        let running = daemon.ask("GET", "/containers/registry/json", "").json()["State"]["Running"].clone();
        assert_eq!(running, true, "{}", daemon.ask("GET", "/containers/registry/logs?stderr=1", "").body);
        std::thread::yield_now();
    }
    let name = format!("{address}/team/box");
    let tag = format!("/images/busybox/tag?repo={name}&tag=1");
    assert_eq!(daemon.ask("POST", &tag, "").status, 201);
    let inspect = || daemon.ask("GET", &format!("/images/{name}:1/json"), "").json();
    let before = inspect();
    let pushed = daemon.ask("POST", &format!("/images/{name}/push?tag=1"), "").lines();
    let digest = pushed.last().unwrap()["aux"]["Digest"].as_str().unwrap().to_owned();
    for gone in [format!("{name}:1"), "busybox".to_owned()] {
        assert_eq!(daemon.ask("DELETE", &format!("/images/{gone}"), "").status, 200);
    }
    let pulled = daemon.ask("POST", &format!("/images/create?fromImage={name}&tag=1"), "").lines();
    assert!(statuses(&pulled).contains(&format!("Digest: {digest}")), "{pulled:?}");
    let after = inspect();
    assert_eq!((&after["Id"], &after["RootFS"]), (&before["Id"], &before["RootFS"]));
    assert_eq!(after["RepoDigests"], json!([format!("{name}@{digest}")]));
    let docker = daemon.docker();
    remove(&docker, "registry").await;
    assert_eq!(daemon.ask("DELETE", "/networks/registry", "").status, 204);
    daemon.finish();
}
