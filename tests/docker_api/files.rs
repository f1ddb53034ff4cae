//! Files of containers in and out.

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use bollard::Docker;
use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use super::daemon::{Daemon, create, host, remove, run, script, start, wait};

/// An archive of entries: name, kind, link or content.
fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == tar::EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(1234);
        header.set_gid(1234);
        if matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link) {
            header.set_size(0);
            archive.append_link(&mut header, name, text).unwrap();
        } else {
            header.set_size(text.len() as u64);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
    }
    archive.into_inner().unwrap()
}

fn file(content: &str) -> Vec<u8> {
    archive(&[("copied", tar::EntryType::Regular, content)])
}

async fn download(docker: &Docker, name: &str, path: &str) -> Vec<u8> {
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    let pieces: Vec<bytes::Bytes> =
        docker.download_from_container(name, Some(options)).try_collect().await.unwrap();
    pieces.concat()
}

/// The names of an archive, and the content of its first file.
fn read(bytes: &[u8]) -> (Vec<String>, String) {
    let (mut names, mut content) = (Vec::new(), String::new());
    let mut archive = tar::Archive::new(bytes);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        names.push(String::from_utf8(entry.path_bytes().into_owned()).unwrap());
        if content.is_empty() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            content = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    (names, content)
}

fn stat(daemon: &Daemon, path: &str) -> Value {
    let answer = daemon.ask("HEAD", path, "");
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = &answer.headers["x-docker-container-path-stat"];
    serde_json::from_slice(&base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
}

#[tokio::test]
async fn files_are_copied_into_and_out_of_containers_that_run_and_that_do_not() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let on_host = daemon.world.dir("bind");
    let text = "mkdir -p /dir && echo own > /dir/own && ln -s /dir /link && until test -e /dir/copied; do :; done; \
                cat /dir/copied > /volume/seen; exec sleep 1000";
    let body = script(text, |body| {
        let binds = vec!["data:/volume".to_owned(), format!("{}:/bound", on_host.display())];
        host(body).binds = Some(binds);
    });
    create(&docker, "box", body).await;
    let upload = async |path: &str, content: &str| {
        let options = UploadToContainerOptionsBuilder::new().path(path).build();
        docker
            .upload_to_container("box", Some(options), bollard::body_full(file(content).into()))
            .await
            .unwrap();
    };
    // Before its first start, and into what is mounted then.
    upload("/volume", "early").await;
    upload("/bound", "bound").await;
    upload("/bin/../etc", "plain").await;
    assert_eq!(std::fs::read_to_string(on_host.join("copied")).unwrap(), "bound");
    assert_eq!(
        read(&download(&docker, "box", "/volume/copied").await),
        (vec!["copied".into()], "early".into())
    );
    start(&docker, "box").await.unwrap();
    let seen = "/containers/box/archive?path=/dir/own";
    while daemon.ask("HEAD", seen, "").status != 200 {
        std::thread::yield_now();
    }
    upload("/link", "late").await;
    while daemon.ask("HEAD", "/containers/box/archive?path=/volume/seen", "").status != 200 {
        std::thread::yield_now();
    }
    let (names, _) = read(&download(&docker, "box", "/dir").await);
    assert_eq!(names, ["dir/", "dir/copied", "dir/own"]);
    let (names, _) = read(&download(&docker, "box", "/link/.").await);
    assert_eq!(names, ["./", "./copied", "./own"]);
    assert_eq!(read(&download(&docker, "box", "/link").await).0, ["link"]);
    let link = stat(&daemon, "/containers/box/archive?path=/link");
    assert_eq!(
        (&link["name"], &link["linkTarget"], &link["mode"]),
        (&json!("link"), &json!("/dir"), &json!(134_218_239))
    );
    let dir = stat(&daemon, "/containers/box/archive?path=/link/");
    assert_eq!((&dir["name"], &dir["mode"]), (&json!("link"), &json!(2_147_484_141_u32)));
    docker.kill_container("box", None::<bollard::query_parameters::KillContainerOptions>).await.unwrap();
    wait(&docker, "box").await;
    assert_eq!(read(&download(&docker, "box", "/dir/copied").await).1, "late");
    assert_eq!(read(&download(&docker, "box", "/etc/copied").await).1, "plain");
    let exported: Vec<bytes::Bytes> = docker.export_container("box").try_collect().await.unwrap();
    let (names, _) = read(&exported.concat());
    assert!(
        ["bin/busybox", "dir/own", "link", "etc/copied"]
            .iter()
            .all(|name| names.contains(&(*name).to_owned()))
    );
    assert!(
        !names.iter().any(|name| name.starts_with("volume/c")),
        "what is mounted is not exported: {names:?}"
    );
    remove(&docker, "box").await;
    daemon.ask("DELETE", "/volumes/data", "");
    daemon.finish();
}

#[tokio::test]
async fn no_path_leads_out_of_a_container() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let outside = daemon.world.dir("outside");
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let up = "../".repeat(30);
    let text = format!(
        "ln -s {up}{0} /up; ln -s {0} /abs; ln -s /proc/1/root /magic; exec sleep 1000",
        outside.display()
    );
    for (name, running) in [("running", true), ("ended", false)] {
        let text = if running { text.clone() } else { text.replace("exec sleep 1000", "true") };
        run(&docker, name, script(&text, |_| {})).await;
        if !running {
            wait(&docker, name).await;
        }
        while daemon.ask("HEAD", &format!("/containers/{name}/archive?path=/magic"), "").status != 200 {
            std::thread::yield_now();
        }
        for link in ["up", "abs"] {
            let path = format!("/containers/{name}/archive?path=/{link}/secret");
            assert_eq!(daemon.ask("GET", &path, "").status, 404, "{path}");
            let path = format!("/containers/{name}/archive?path=/{link}");
            assert_eq!(daemon.upload("PUT", &path, &file("written")).status, 404, "{path}");
        }
        let magic = format!("/containers/{name}/archive?path=/magic{}/secret", outside.display());
        assert!(daemon.ask("GET", &magic, "").status >= 400);
        let (symlink, hard, regular) =
            (tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Regular);
        let target = outside.join("secret");
        let target = target.to_str().unwrap();
        let above = format!("{up}{target}");
        for entries in [
            [("l", symlink, outside.to_str().unwrap()), ("l/new", regular, "x")],
            [("l", symlink, above.as_str()), ("l", regular, "x")],
            [("h", hard, target), ("h", regular, "x")],
        ] {
            // Whether it is refused or stays inside, nothing outside may change.
            daemon.upload("PUT", &format!("/containers/{name}/archive?path=/tmp"), &archive(&entries));
            let names: Vec<_> =
                std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["secret"]);
            assert_eq!(std::fs::read_to_string(outside.join("secret")).unwrap(), "secret");
        }
        remove(&docker, name).await;
    }
    assert!(Path::new(&outside).exists());
    daemon.finish();
}

#[tokio::test]
async fn what_cannot_be_copied_is_told_as_docker_does() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    create(&docker, "box", script("true", |body| body.user = Some("1000:2000".into()))).await;
    let sealed = script("true", |body| {
        host(body).readonly_rootfs = Some(true);
        host(body).binds = Some(vec!["data:/volume:ro".to_owned()]);
    });
    create(&docker, "sealed", sealed).await;
    let put = |path: &str, body: &[u8]| daemon.upload("PUT", &format!("/containers/{path}"), body);
    let over = archive(&[("etc", tar::EntryType::Regular, "x")]);
    let under = archive(&[("busybox", tar::EntryType::Directory, "")]);
    let cases = [
        (put("box/archive?path=/none", &file("x")), 404, "Could not find the file /none in container box"),
        (put("box/archive?path=/bin/busybox", &file("x")), 400, "extraction point is not a directory"),
        (put("box/archive", &file("x")), 400, "path cannot be empty"),
        (put("none/archive?path=/", &file("x")), 404, "No such container: none"),
        (put("box/archive?path=/root", b"no archive"), 500, "archive is truncated"),
        (put("sealed/archive?path=/root", &file("x")), 403, "container rootfs is marked read-only"),
        (put("sealed/archive?path=/volume", &file("x")), 403, "mounted volume is marked read-only"),
        (put("box/archive?path=/&noOverwriteDirNonDir=1", &over), 400, "cannot overwrite directory"),
        (
            put("box/archive?path=/bin&noOverwriteDirNonDir=true", &under),
            400,
            "cannot overwrite non-directory",
        ),
        (daemon.ask("GET", "/containers/box/archive?path=/none", ""), 404, "Could not find the file /none"),
    ];
    for (answer, status, part) in cases {
        assert_eq!(answer.status, status, "{part}: {answer:?}");
        assert!(answer.body.contains(part), "{part}: {answer:?}");
    }
    let changes = || daemon.ask("GET", "/containers/box/changes", "").json();
    assert_eq!(put("box/archive?path=/root&copyUIDGID=1", &file("x")).status, 200);
    assert_eq!(changes(), json!([{ "Path": "/root", "Kind": 0 }, { "Path": "/root/copied", "Kind": 1 }]));
    let exported = daemon.ask("GET", "/containers/box/archive?path=/root/copied", "").body;
    assert!(exported.contains("0001750\0") && exported.contains("0003720\0"), "it is the user's");
    for name in ["box", "sealed"] {
        remove(&docker, name).await;
    }
    daemon.ask("DELETE", "/volumes/data", "");
    daemon.finish();
}

#[tokio::test]
async fn a_client_that_leaves_while_it_copies_leaves_nothing() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    create(&docker, "box", script("true", |_| {})).await;
    let big = file(&"x".repeat(32 << 20));
    drop(daemon.send_part("PUT", "/containers/box/archive?path=/root", &big[..1 << 20], big.len()));
    drop(daemon.send_bytes("GET", "/containers/box/archive?path=/", b""));
    // It cannot be started before nobody holds its files any more.
    while let Err(error) = start(&docker, "box").await {
        assert!(error.to_string().contains("running"), "{error}");
    }
    assert_eq!(wait(&docker, "box").await, 0);
    remove(&docker, "box").await;
    daemon.finish();
}
