//! Networks, volumes, events, pruning.

use std::collections::HashMap;

use bollard::models::{NetworkCreateRequest, VolumeCreateOptions};
use bollard::query_parameters::{
    DataUsageOptions, EventsOptionsBuilder, InspectNetworkOptions, PruneContainersOptions,
    PruneVolumesOptions, PruneVolumesOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use futures::{StreamExt as _, TryStreamExt as _};

use super::daemon::{Daemon, create, host, inspect, remove, run, script, start, wait};

#[tokio::test]
async fn containers_of_a_network_find_each_other_by_name() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let request = NetworkCreateRequest {
        name: "shop".to_owned(),
        labels: Some(HashMap::from([("a".to_owned(), "b".to_owned())])),
        ..NetworkCreateRequest::default()
    };
    docker.create_network(request.clone()).await.unwrap();
    let again = docker.create_network(request).await.unwrap_err().to_string();
    assert!(again.contains("network with name shop already exists"), "{again}");
    let on_shop = |text: &str| script(text, |body| host(body).network_mode = Some("shop".to_owned()));
    let id = run(&docker, "db", on_shop("sleep 100")).await;
    run(&docker, "web", on_shop("ping -c 1 -W 5 db")).await;
    assert_eq!(wait(&docker, "web").await, 0);
    let seen = docker.inspect_network("shop", None::<InspectNetworkOptions>).await.unwrap();
    assert_eq!(seen.labels.unwrap()["a"], "b");
    assert!(seen.containers.unwrap().contains_key(&id));
    let inspected = inspect(&docker, "db").await.unwrap();
    let endpoint = inspected.network_settings.unwrap().networks.unwrap()["shop"].clone();
    assert!(!endpoint.ip_address.unwrap().is_empty());
    let refused = docker.remove_network("shop").await.unwrap_err().to_string();
    assert!(refused.contains("has active endpoints"), "{refused}");
    remove(&docker, "db").await;
    remove(&docker, "web").await;
    docker.remove_network("shop").await.unwrap();
    daemon.finish();
}

#[tokio::test]
async fn volumes_keep_their_content_and_are_not_taken_from_containers() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let labels = Some(HashMap::from([("kind".to_owned(), "cache".to_owned())]));
    let options =
        VolumeCreateOptions { name: Some("data".to_owned()), labels, ..VolumeCreateOptions::default() };
    let made = docker.create_volume(options).await.unwrap();
    assert_eq!((made.name.as_str(), made.labels["kind"].as_str()), ("data", "cache"));
    let mounted = |text: &str| script(text, |body| host(body).binds = Some(vec!["data:/data".to_owned()]));
    run(&docker, "writer", mounted("echo kept > /data/file")).await;
    assert_eq!(wait(&docker, "writer").await, 0);
    remove(&docker, "writer").await;
    run(&docker, "reader", mounted("grep kept /data/file")).await;
    assert_eq!(wait(&docker, "reader").await, 0);
    let force = RemoveVolumeOptionsBuilder::new().build();
    let refused = docker.remove_volume("data", Some(force.clone())).await.unwrap_err().to_string();
    assert!(refused.contains("volume is in use"), "{refused}");
    remove(&docker, "reader").await;
    let kept =
        docker.prune_volumes(None::<PruneVolumesOptions>).await.unwrap().volumes_deleted.unwrap_or_default();
    assert_eq!(kept, [""; 0], "it has a name");
    let all = HashMap::from([("all", vec!["true"])]);
    let options = PruneVolumesOptionsBuilder::new().filters(&all).build();
    assert_eq!(docker.prune_volumes(Some(options)).await.unwrap().volumes_deleted.unwrap(), ["data"]);
    daemon.finish();
}

#[tokio::test]
async fn events_are_told_live_and_again_later() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let filter = HashMap::from([("type", vec!["container"])]);
    let mut live = docker.events(Some(EventsOptionsBuilder::new().filters(&filter).build()));
    // The first is polled before anything happens, so that the daemon knows of the client.
    let ((), first) = tokio::join!(
        async {
            create(&docker, "short", script("exit 6", |_| {})).await;
        },
        live.next()
    );
    start(&docker, "short").await.unwrap();
    let mut actions = vec![first.unwrap().unwrap().action.unwrap()];
    while actions.last().is_none_or(|action| action != "die") {
        let event = live.next().await.unwrap().unwrap();
        let attributes = event.actor.unwrap().attributes.unwrap();
        assert_eq!(attributes["name"], "short");
        let action = event.action.unwrap();
        assert!(action != "die" || attributes["exitCode"] == "6");
        actions.push(action);
    }
    assert_eq!(actions, ["create", "start", "die"]);
    remove(&docker, "short").await;
    let options = EventsOptionsBuilder::new().since("1").until("9999999999").filters(&filter).build();
    let past: Vec<_> =
        docker.events(Some(options)).take(4).map_ok(|e| e.action.unwrap()).try_collect().await.unwrap();
    assert_eq!(past, ["create", "start", "die", "destroy"]);
    daemon.finish();
}

#[tokio::test]
async fn pruning_spares_what_runs() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let ended = create(&docker, "ended", script("true", |_| {})).await;
    run(&docker, "running", script("sleep 100", |_| {})).await;
    let pruned = docker.prune_containers(None::<PruneContainersOptions>).await.unwrap();
    assert_eq!(pruned.containers_deleted.unwrap(), [ended]);
    assert!(inspect(&docker, "running").await.is_ok());
    let usage = docker.df(None::<DataUsageOptions>).await.unwrap();
    assert_eq!((usage.containers.unwrap().len(), usage.images.unwrap().len()), (1, 1));
    remove(&docker, "running").await;
    daemon.finish();
}
