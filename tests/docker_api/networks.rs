//! Networks: what they are made of, and containers that come to them and leave.

use bollard::Docker;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::NetworkingConfig;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::daemon::{Answer, Daemon, create, host, inspect, remove, run, script, start, wait};

/// Runs a script in a running container; its output and exit code.
pub(crate) async fn sh(docker: &Docker, container: &str, text: &str) -> (String, i64) {
    let options = CreateExecOptions {
        cmd: Some(["sh", "-c", text].map(str::to_owned).to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let id = docker.create_exec(container, options).await.unwrap().id;
    let StartExecResults::Attached { mut output, .. } = docker.start_exec(&id, None).await.unwrap() else {
        panic!("it was not to be detached")
    };
    let mut text = String::new();
    while let Some(part) = output.next().await {
        text.push_str(&part.unwrap().to_string());
    }
    (text.trim().to_owned(), docker.inspect_exec(&id).await.unwrap().exit_code.unwrap())
}

/// Makes networks of these names, with a subnet where one is given.
pub(crate) fn make(daemon: &Daemon, networks: &[(&str, &str)]) {
    for (name, subnet) in networks {
        let config = if subnet.is_empty() { json!([]) } else { json!([{ "Subnet": subnet }]) };
        let body = json!({ "Name": name, "IPAM": { "Config": config } });
        let made = daemon.ask("POST", "/networks/create", &body.to_string());
        assert_eq!(made.status, 201, "{made:?}");
    }
}

pub(crate) async fn unmake(daemon: Daemon, networks: &[&str]) {
    for name in networks {
        daemon.docker().remove_network(name).await.unwrap();
    }
    daemon.finish();
}

fn connect(daemon: &Daemon, network: &str, body: &Value) -> Answer {
    daemon.ask("POST", &format!("/networks/{network}/connect"), &body.to_string())
}

fn disconnect(daemon: &Daemon, network: &str, container: &str) -> Answer {
    let body = json!({ "Container": container }).to_string();
    daemon.ask("POST", &format!("/networks/{network}/disconnect"), &body)
}

/// A container that sleeps on a network.
fn on(network: &str) -> bollard::models::ContainerCreateBody {
    let network = network.to_owned();
    script("sleep 1000", |body| host(body).network_mode = Some(network))
}

fn networks(daemon: &Daemon, container: &str) -> Value {
    let answer = daemon.ask("GET", &format!("/containers/{container}/json"), "");
    serde_json::from_str::<Value>(&answer.body).unwrap()["NetworkSettings"]["Networks"].clone()
}

#[tokio::test]
async fn a_running_container_comes_to_a_network_and_leaves_it() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    make(&daemon, &[("back", ""), ("front", "")]);
    run(&docker, "db", on("back")).await;
    run(&docker, "web", on("front")).await;
    let ping = "ping -c 1 -W 5 store";
    assert_ne!(sh(&docker, "web", ping).await.1, 0, "there is no such name on front");
    let body = json!({"Container": "web", "EndpointConfig": {"Aliases": ["shop"]}});
    assert_eq!(connect(&daemon, "back", &body).status, 200);
    let body = json!({"Container": "db", "EndpointConfig": {"Aliases": ["store"]}});
    assert!(
        connect(&daemon, "back", &body).body.contains("endpoint with name db already exists in network back")
    );
    assert_eq!(disconnect(&daemon, "back", "db").status, 200);
    assert_eq!(connect(&daemon, "back", &body).status, 200);
    assert_eq!(sh(&docker, "web", ping).await.1, 0);
    assert_eq!(sh(&docker, "db", "ping -c 1 -W 5 shop").await.1, 0);
    assert_eq!(sh(&docker, "web", "ls /sys/class/net").await.0, "eth0\neth1\nlo");
    let seen = networks(&daemon, "web");
    assert!(!seen["back"]["IPAddress"].as_str().unwrap().is_empty());
    assert_eq!(seen["back"]["Aliases"], json!(["shop"]));
    // Of the two, the first by its name has the way out.
    let route = "ip route | sed -n 's/default via //p' | cut -d' ' -f1";
    assert_eq!(sh(&docker, "web", route).await.0, seen["back"]["Gateway"].as_str().unwrap());
    assert_eq!(disconnect(&daemon, "back", "web").status, 200);
    assert_eq!(sh(&docker, "web", route).await.0, seen["front"]["Gateway"].as_str().unwrap());
    assert_ne!(sh(&docker, "web", ping).await.1, 0);
    let refused = disconnect(&daemon, "back", "web");
    assert!(refused.body.contains("is not connected to network back"), "{refused:?}");
    assert_eq!(networks(&daemon, "web").as_object().unwrap().len(), 1);
    for name in ["db", "web"] {
        remove(&docker, name).await;
    }
    unmake(daemon, &["back", "front"]).await;
}

#[tokio::test]
async fn a_container_is_on_several_networks_from_its_start() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    make(&daemon, &[("a", ""), ("b", "10.213.7.0/24")]);
    let body = json!({
        "Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "a"},
        "NetworkingConfig": {"EndpointsConfig": {
            "a": {}, "b": {"IPAMConfig": {"IPv4Address": "10.213.7.77"}, "MacAddress": "02:00:00:00:00:07", "GwPriority": 1},
        }},
    });
    let old = daemon.ask("POST", "/v1.43/containers/create?name=old", &body.to_string());
    assert!(old.body.contains("Container cannot be connected to network endpoints: a, b"), "{old:?}");
    let made = daemon.ask("POST", "/containers/create?name=both", &body.to_string());
    assert_eq!(made.status, 201, "{made:?}");
    // It is on a third by the time that it starts.
    make(&daemon, &[("c", "")]);
    assert_eq!(connect(&daemon, "c", &json!({"Container": "both"})).status, 200);
    start(&docker, "both").await.unwrap();
    let (text, _) = sh(&docker, "both", "ip addr; ip route").await;
    for expected in ["eth2", "10.213.7.77/24", "link/ether 02:00:00:00:00:07", "default via 10.213.7.1"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let seen = networks(&daemon, "both");
    assert_eq!(seen["b"]["IPAMConfig"], json!({"IPv4Address": "10.213.7.77"}));
    assert_eq!(
        (&seen["b"]["MacAddress"], &seen["b"]["GwPriority"]),
        (&json!("02:00:00:00:00:07"), &json!(1))
    );
    assert_eq!(seen.as_object().unwrap().len(), 3);
    remove(&docker, "both").await;
    unmake(daemon, &["a", "b", "c"]).await;
}

#[tokio::test]
async fn an_address_that_is_asked_for_has_to_be_free() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    make(&daemon, &[("shop", "10.213.8.0/24")]);
    let asking = |address: &str| {
        json!({
            "Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "shop"},
            "NetworkingConfig": {"EndpointsConfig": {"shop": {"IPAMConfig": {"IPv4Address": address}}}},
        })
        .to_string()
    };
    for (address, text) in [
        ("10.99.0.1", "no configured subnet or ip-range contain the IP address 10.99.0.1"),
        ("here", "invalid IPv4 address: here"),
    ] {
        let refused = daemon.ask("POST", "/containers/create", &asking(address));
        assert_eq!((refused.status, refused.body.contains(text)), (400, true), "{refused:?}");
    }
    for name in ["one", "two"] {
        let made = daemon.ask("POST", &format!("/containers/create?name={name}"), &asking("10.213.8.9"));
        assert_eq!(made.status, 201, "{made:?}");
    }
    start(&docker, "one").await.unwrap();
    let refused = daemon.ask("POST", "/containers/two/start", "");
    assert_eq!((refused.status, refused.body.contains("Address already in use")), (403, true), "{refused:?}");
    // Of one that does not run, it may be taken.
    let kill = None::<bollard::query_parameters::KillContainerOptions>;
    docker.kill_container("one", kill).await.unwrap();
    wait(&docker, "one").await;
    start(&docker, "two").await.unwrap();
    assert_eq!(networks(&daemon, "two")["shop"]["IPAddress"], "10.213.8.9");
    for name in ["one", "two"] {
        remove(&docker, name).await;
    }
    unmake(daemon, &["shop"]).await;
}

#[tokio::test]
async fn a_network_of_another_container_is_shared() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    make(&daemon, &[("shop", "")]);
    let body = script("nc -l -p 7000 -e echo hello; sleep 1000", |body| {
        body.hostname = Some("shared".to_owned());
        host(body).network_mode = Some("shop".to_owned());
    });
    let id = run(&docker, "web", body).await;
    let joins = |text: &str, of: &str| {
        let mode = format!("container:{of}");
        script(text, |body| host(body).network_mode = Some(mode))
    };
    let text = "hostname; until nc 127.0.0.1 7000; do :; done; cmp /etc/hosts /etc/hosts && grep -c shared /etc/hosts";
    run(&docker, "beside", joins(text, "web")).await;
    assert_eq!(wait(&docker, "beside").await, 0);
    let log = daemon.ask("GET", "/containers/beside/logs?stdout=1", "").body;
    assert!(log.contains("shared\n") && log.contains("hello\n") && log.contains("1\n"), "{log:?}");
    let seen = inspect(&docker, "beside").await.unwrap();
    assert_eq!(seen.host_config.unwrap().network_mode, Some(format!("container:{id}")));
    let refused = connect(&daemon, "shop", &json!({"Container": "beside"}));
    assert_eq!((refused.status, refused.body.contains("container sharing network namespace")), (400, true));

    create(&docker, "idle", joins("true", "web")).await;
    create(&docker, "late", joins("true", "idle")).await;
    let refused = daemon.ask("POST", "/containers/late/start", "");
    assert!(refused.body.contains("cannot join network of a non running container"), "{refused:?}");
    for (body, text) in [
        (json!({"Hostname": "x"}), "hostname and the network mode"),
        (json!({"ExposedPorts": {"80": {}}}), "port exposing and the container type network mode"),
        (
            json!({"HostConfig": {"PortBindings": {"80": []}}}),
            "port publishing and the container type network mode",
        ),
        (json!({"HostConfig": {"Dns": ["1.1.1.1"]}}), "dns and the network mode"),
        (json!({"HostConfig": {"Links": ["web:x"]}}), "container type network can't be used with links"),
        (
            json!({"HostConfig": {"ExtraHosts": ["a:1.1.1.1"]}}),
            "custom host-to-IP mapping and the network mode",
        ),
    ] {
        let mut body = body;
        body["Image"] = json!("busybox");
        body["HostConfig"]["NetworkMode"] = json!("container:web");
        let refused = daemon.ask("POST", "/containers/create", &body.to_string());
        assert_eq!((refused.status, refused.body.contains(text)), (400, true), "{text}: {refused:?}");
    }
    for name in ["web", "beside", "idle", "late"] {
        remove(&docker, name).await;
    }
    unmake(daemon, &["shop"]).await;
}

#[tokio::test]
async fn names_are_resolved_on_networks_of_ones_own_alone() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let body = script("sleep 1000", |body| {
        body.env = Some(vec!["USER=x".to_owned()]);
        body.exposed_ports = Some([("5432/tcp".to_owned(), Default::default())].into());
        host(body).network_mode = None;
    });
    run(&docker, "my-db", body).await;
    let body = script("sleep 1000", |body| {
        // As the docker command calls it.
        host(body).network_mode = Some("default".to_owned());
        body.networking_config = Some(NetworkingConfig {
            endpoints_config: Some([("default".to_owned(), Default::default())].into()),
        });
        host(body).links = Some(vec!["my-db:db".to_owned()]);
        host(body).dns = Some(vec!["192.0.2.53".to_owned()]);
        host(body).dns_search = Some(vec!["shop.example".to_owned()]);
        host(body).dns_options = Some(vec!["ndots:2".to_owned()]);
        host(body).extra_hosts = Some(vec!["gate:host-gateway".to_owned()]);
    });
    run(&docker, "web", body).await;
    let (conf, _) = sh(&docker, "web", "cat /etc/resolv.conf").await;
    assert_eq!(conf, "nameserver 192.0.2.53\nsearch shop.example\noptions ndots:2");
    // By what /etc/hosts says, but not by what the network knows.
    assert_eq!(sh(&docker, "web", "ping -c 1 -W 5 db && ping -c 1 -W 5 my-db").await.1, 0);
    let seen = networks(&daemon, "my-db");
    let address = seen["bridge"]["IPAddress"].as_str().unwrap().to_owned();
    let gateway = seen["bridge"]["Gateway"].as_str().unwrap().to_owned();
    assert_eq!(sh(&docker, "web", "grep gate /etc/hosts").await.0, format!("{gateway}\tgate"));
    let (env, _) = sh(&docker, "web", "cat /proc/1/environ | tr '\\0' '\\n' | grep ^DB_ | sort").await;
    let expected = format!(
        "DB_ENV_USER=x\nDB_NAME=/web/db\nDB_PORT=tcp://{address}:5432\nDB_PORT_5432_TCP=tcp://{address}:5432\n\
         DB_PORT_5432_TCP_ADDR={address}\nDB_PORT_5432_TCP_PORT=5432\nDB_PORT_5432_TCP_PROTO=tcp"
    );
    assert_eq!(env, expected);
    // Once it is on a network of one's own, names are resolved, at the container's own resolver.
    make(&daemon, &[("shop", "")]);
    let body = json!({"Container": "web", "EndpointConfig": {"Links": ["my-db:store"]}});
    assert_eq!(connect(&daemon, "shop", &body).status, 200);
    assert_eq!(connect(&daemon, "shop", &json!({"Container": "my-db"})).status, 200);
    assert!(sh(&docker, "web", "cat /etc/resolv.conf").await.0.starts_with("nameserver 127.0.0.11\n"));
    assert_eq!(sh(&docker, "web", "ping -c 1 -W 5 store").await.1, 0);
    assert_ne!(sh(&docker, "my-db", "ping -c 1 -W 5 store").await.1, 0, "the name is the other's own");

    for (body, status, text) in [
        (
            json!({"HostConfig": {"Links": ["nobody:x"]}}),
            400,
            "could not get container for nobody: No such container: nobody",
        ),
        (json!({"HostConfig": {"Links": [":"]}}), 400, "bad format for links"),
        (json!({"HostConfig": {"Dns": ["there"]}}), 400, "bad nameserver address"),
        (
            json!({"NetworkingConfig": {"EndpointsConfig": {"bridge": {"Aliases": ["x"]}}}}),
            400,
            "network-scoped aliases are only supported for user-defined networks",
        ),
    ] {
        let mut body = body;
        body["Image"] = json!("busybox");
        let refused = daemon.ask("POST", "/containers/create", &body.to_string());
        assert_eq!((refused.status, refused.body.contains(text)), (status, true), "{text}: {refused:?}");
    }
    for name in ["web", "my-db"] {
        remove(&docker, name).await;
    }
    // It stays for the next; here there is none.
    let engine = super::lives::engine_of(&daemon).await;
    engine.remove_network("bridge").await.unwrap();
    unmake(daemon, &["shop"]).await;
}

#[tokio::test]
async fn a_container_that_has_ended_leaves_its_address_and_its_name() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    // Room for the gateway and one container.
    make(&daemon, &[("shop", "10.213.10.0/30")]);
    run(&docker, "first", on("shop")).await;
    create(&docker, "second", on("shop")).await;
    let refused = daemon.ask("POST", "/containers/second/start", "");
    assert!(refused.body.contains("no available IPv4 addresses"), "{refused:?}");
    assert_eq!(daemon.ask("POST", "/containers/first/stop?t=0", "").status, 204);
    start(&docker, "second").await.unwrap();
    assert_eq!(networks(&daemon, "second")["shop"]["IPAddress"], "10.213.10.2");
    assert_ne!(sh(&docker, "second", "nslookup first 127.0.0.11").await.1, 0);
    assert_eq!(daemon.ask("POST", "/containers/second/restart?t=0", "").status, 204);
    for name in ["first", "second"] {
        remove(&docker, name).await;
    }
    unmake(daemon, &["shop"]).await;
}

#[tokio::test]
async fn a_network_may_come_after_the_container() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    create(&docker, "early", on("shop")).await;
    let refused = daemon.ask("POST", "/containers/early/start", "");
    assert_eq!((refused.status, refused.body.contains("network shop not found")), (404, true), "{refused:?}");
    make(&daemon, &[("shop", "")]);
    start(&docker, "early").await.unwrap();
    remove(&docker, "early").await;
    unmake(daemon, &["shop"]).await;
}

#[tokio::test]
async fn networks_are_made_as_asked_for() {
    let daemon = Daemon::start();
    let docker = daemon.docker();
    let body = json!({
        "Name": "shop", "Attachable": true, "Labels": {"a": "b"},
        "IPAM": {"Config": [{
            "Subnet": "10.213.9.0/24", "IPRange": "10.213.9.128/25", "Gateway": "10.213.9.254",
            "AuxiliaryAddresses": {"router": "10.213.9.129"},
        }]},
        "Options": {"com.docker.network.driver.mtu": "1400", "com.docker.network.bridge.enable_icc": "false"},
    });
    assert_eq!(daemon.ask("POST", "/networks/create", &body.to_string()).status, 201);
    let seen: Value = serde_json::from_str(&daemon.ask("GET", "/networks/shop", "").body).unwrap();
    for (name, expected) in
        [("Options", &body["Options"]), ("Labels", &body["Labels"]), ("Attachable", &json!(true))]
    {
        assert_eq!(&seen[name], expected);
    }
    assert_eq!(seen["IPAM"]["Config"], body["IPAM"]["Config"]);
    run(&docker, "one", on("shop")).await;
    run(&docker, "two", on("shop")).await;
    let (text, _) = sh(&docker, "one", "ip addr show eth0; ip route").await;
    for expected in ["mtu 1400", "10.213.9.130/24", "default via 10.213.9.254"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert_ne!(sh(&docker, "one", "ping -c 1 -W 1 two").await.1, 0, "they are to be kept apart");
    for (body, status, text) in [
        (json!({"IPAM": {"Config": [{"Subnet": "10.213.9.0/25"}]}}), 403, "Pool overlaps with other one"),
        (json!({"IPAM": {"Config": [{"Subnet": "nowhere"}]}}), 400, "invalid subnet nowhere"),
        (json!({"Driver": "macvlan"}), 404, "plugin \\\"macvlan\\\" not found"),
        (json!({"Driver": "overlay"}), 503, "This node is not a swarm manager"),
        (json!({"EnableIPv6": true}), 501, "--ipv6 is not supported"),
    ] {
        let mut body = body;
        body["Name"] = json!("other");
        let refused = daemon.ask("POST", "/networks/create", &body.to_string());
        assert_eq!((refused.status, refused.body.contains(text)), (status, true), "{text}: {refused:?}");
    }
    for (network, container, status) in
        [("host", "one", 400), ("none", "one", 400), ("nowhere", "one", 404), ("shop", "nobody", 404)]
    {
        let refused = connect(&daemon, network, &json!({ "Container": container }));
        assert_eq!(refused.status, status, "{network} {container}: {refused:?}");
    }
    for name in ["one", "two"] {
        remove(&docker, name).await;
    }
    unmake(daemon, &["shop"]).await;
}
