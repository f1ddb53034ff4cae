//! Pulling from a registry on loopback, Debian's docker-registry.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt as _;
use tests::expect_success;

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
