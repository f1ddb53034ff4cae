//! Images in and out.

use bollard::query_parameters::{
    ImportImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder,
    TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use serde_json::json;

use super::daemon::{Daemon, context, create, remove, run, script, start, wait};

#[tokio::test]
async fn an_image_is_saved_removed_and_loaded_as_it_was() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let before = docker.inspect_image("busybox").await.unwrap();
    let tag = TagImageOptionsBuilder::new().repo("registry.example:5000/shop/box").tag("1").build();
    docker.tag_image("busybox", Some(tag)).await.unwrap();
    assert_eq!(docker.inspect_image("registry.example:5000/shop/box:1").await.unwrap().id, before.id);
    let pieces: Vec<Bytes> = docker.export_image("busybox:latest").try_collect().await.unwrap();
    let archive = Bytes::from(pieces.concat());
    let gone = docker
        .remove_image("registry.example:5000/shop/box:1", None::<RemoveImageOptions>, None)
        .await
        .unwrap();
    assert_eq!((gone.len(), gone[0].untagged.as_deref()), (1, Some("registry.example:5000/shop/box:1")));
    let gone = docker.remove_image("busybox", None::<RemoveImageOptions>, None).await.unwrap();
    assert_eq!(gone.last().unwrap().deleted, before.id);
    assert!(docker.inspect_image("busybox").await.is_err());
    let options = ImportImageOptionsBuilder::new().build();
    let told: Vec<_> =
        docker.import_image(options, bollard::body_full(archive), None).map(Result::unwrap).collect().await;
    assert_eq!(told[0].stream.as_deref(), Some("Loaded image: busybox:latest\n"));
    let after = docker.inspect_image("busybox").await.unwrap();
    assert_eq!((after.id, after.root_fs), (before.id, before.root_fs));
    daemon.finish();
}

#[test]
fn images_are_chosen_by_age_and_name() {
    let daemon = Daemon::start();
    let built = daemon.upload(
        "POST",
        "/build?t=young&networkmode=none",
        &context(&[("Dockerfile", "FROM busybox\nRUN true\n")]),
    );
    assert!(built.body.contains("Successfully tagged"), "{built:?}");
    let list = |filters: &str| {
        let encoded = filters
            .replace('{', "%7B")
            .replace('}', "%7D")
            .replace('"', "%22")
            .replace('[', "%5B")
            .replace(']', "%5D");
        let answer = daemon.ask("GET", &format!("/images/json?filters={encoded}"), "");
        assert_eq!(answer.status, 200, "{answer:?}");
        let names = answer.json();
        let mut names: Vec<String> = names
            .as_array()
            .unwrap()
            .iter()
            .map(|image| image["RepoTags"][0].as_str().unwrap().to_owned())
            .collect();
        names.sort_unstable();
        names
    };
    assert_eq!(list(r#"{"since":["busybox"]}"#), ["young:latest"]);
    assert_eq!(list(r#"{"before":["young"]}"#), ["busybox:latest"]);
    assert_eq!(list(r#"{"until":["0s"]}"#), ["busybox:latest", "young:latest"]);
    assert_eq!(list(r#"{"until":["24h"],"reference":["young"]}"#), [""; 0]);
    assert_eq!(daemon.ask("GET", "/images/json?filters=%7B%22since%22:%5B%22none%22%5D%7D", "").status, 404);
    assert_eq!(daemon.ask("GET", "/images/json?filters=%7B%22odd%22:%5B%22x%22%5D%7D", "").status, 400);
    daemon.finish();
}

#[tokio::test]
async fn an_image_of_a_container_stays() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    create(&docker, "user", script("true", |_| {})).await;
    let options = RemoveImageOptionsBuilder::new().build();
    let refused = docker.remove_image("busybox", Some(options), None).await.unwrap_err().to_string();
    assert!(refused.contains("image is being used by stopped container user"), "{refused}");
    remove(&docker, "user").await;
    let images = docker.list_images(Some(ListImagesOptionsBuilder::new().build())).await.unwrap();
    assert_eq!(images[0].repo_tags, ["busybox:latest"]);
    daemon.finish();
}

#[test]
fn a_pull_that_fails_is_an_error_and_not_a_stream() {
    let daemon = Daemon::start();
    // Nothing listens at the first port.
    let answer = daemon.ask("POST", "/images/create?fromImage=127.0.0.1:1/x&tag=1", "");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("failed to reach registry 127.0.0.1:1"), "{answer:?}");
    let answer = daemon.ask("POST", "/images/load", "this is no archive");
    // This one has answered before it has read.
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(
        answer.body.contains("errorDetail") && answer.body.contains("archive is truncated"),
        "{answer:?}"
    );
    daemon.finish();
}

#[tokio::test]
async fn a_container_becomes_an_image() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let text = "echo content > /file; rm /bin/ls; mkdir -p /new; ln /file /new/again; sleep 1000";
    let id = run(&docker, "worker", script(text, |body| body.env = Some(vec!["A=1".to_owned()]))).await;
    // Its last command runs, so the others have.
    let top = || daemon.ask("GET", "/containers/worker/top", "").body;
    while !top().contains("sleep 1000") {
        std::thread::yield_now();
    }
    let changes =
        "changes=CMD%20%5B%22sh%22%2C%22-c%22%2C%22grep%20content%20/file%22%5D&changes=LABEL%20l=m";
    let path = format!("/commit?container=worker&repo=made&tag=1&comment=why&author=me&{changes}");
    let answer = daemon.ask("POST", &path, r#"{"Env":["B=2"],"ExposedPorts":{"80/tcp":{}}}"#);
    assert_eq!(answer.status, 201, "{answer:?}");
    let image = daemon.ask("GET", "/images/made:1/json", "").json();
    assert_eq!(image["Id"], answer.json()["Id"]);
    assert_eq!((&image["Comment"], &image["Author"]), (&json!("why"), &json!("me")));
    let config = &image["Config"];
    assert_eq!(config["Labels"]["l"], "m");
    assert!(config["Env"].to_string().ends_with(r#""A=1","B=2"]"#), "{config}");
    assert_eq!(config["ExposedPorts"], json!({ "80/tcp": {} }));
    let history = daemon.ask("GET", "/images/made:1/history", "").json();
    assert_eq!((&history[0]["Size"], &history[0]["Comment"]), (&json!(8), &json!("why")));
    let diff = daemon.ask("GET", &format!("/containers/{id}/changes"), "").json();
    let expected = [("/bin", 0), ("/bin/ls", 2), ("/file", 1), ("/new", 1), ("/new/again", 1)];
    assert_eq!(diff, json!(expected.map(|(path, kind)| json!({ "Path": path, "Kind": kind }))));
    create(&docker, "of-it", script("", |body| (body.image, body.cmd) = (Some("made:1".into()), None))).await;
    start(&docker, "of-it").await.unwrap();
    assert_eq!(wait(&docker, "of-it").await, 0);
    for (query, status, part) in [
        ("container=none", 404, "No such container: none"),
        ("container=worker&changes=RUN%20x", 400, "run is not a valid change command"),
        ("container=worker&repo=A", 400, "must be lowercase"),
        ("", 400, "no container was named"),
    ] {
        let answer = daemon.ask("POST", &format!("/commit?{query}"), "");
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.body.contains(part), "{answer:?}");
    }
    remove(&docker, "of-it").await;
    remove(&docker, "worker").await;
    daemon.finish();
}
