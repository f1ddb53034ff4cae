//! Images in and out.

use bollard::query_parameters::{
    ImportImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder,
    TagImageOptionsBuilder,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};

use super::daemon::{Daemon, create, remove, script};

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

#[tokio::test]
async fn an_image_of_a_container_stays() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    create(&docker, "user", script("true", |_| {})).await;
    let options = RemoveImageOptionsBuilder::new().build();
    let refused = docker.remove_image("busybox", Some(options), None).await.unwrap_err().to_string();
    assert!(refused.contains("image is being used by container user"), "{refused}");
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
    assert_eq!(answer.status, 500, "{answer:?}");
    assert!(answer.body.contains("archive is truncated"), "{answer:?}");
    daemon.finish();
}
