//! Versions, statuses, texts.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

use super::daemon::Daemon;

#[test]
fn versions_are_negotiated_as_dockers() {
    let daemon = Daemon::start();
    let ping = daemon.ask("GET", "/_ping", "");
    assert_eq!((ping.status, ping.body.as_str()), (200, "OK"));
    assert_eq!((ping.headers["api-version"].as_str(), ping.headers["ostype"].as_str()), ("1.51", "linux"));
    let head = daemon.ask("HEAD", "/_ping", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    for version in ["/v1.24", "/v1.41", "/v1.51", ""] {
        let answer = daemon.ask("GET", &format!("{version}/version"), "");
        let version: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((&version["ApiVersion"], &version["MinAPIVersion"]), (&json!("1.51"), &json!("1.24")));
    }
    let new = daemon.ask("GET", "/v1.52/version", "");
    assert_eq!(new.status, 400);
    assert!(new.body.contains("client version 1.52 is too new. Maximum supported API version is 1.51"));
    let old = daemon.ask("GET", "/v1.23/version", "");
    assert!(old.body.contains("client version 1.23 is too old. Minimum supported API version is 1.24"));
    daemon.finish();
}

#[test]
fn fields_follow_the_version() {
    let daemon = Daemon::start();
    let image = |version: &str| -> Value {
        serde_json::from_str(&daemon.ask("GET", &format!("{version}/images/json"), "").body).unwrap()
    };
    assert!(image("/v1.43")[0]["VirtualSize"].is_number());
    assert_eq!(image("/v1.44")[0]["VirtualSize"], Value::Null);
    let config = |version: &str| -> Value {
        let answer = daemon.ask("GET", &format!("{version}/images/busybox/json"), "");
        serde_json::from_str::<Value>(&answer.body).unwrap()["Config"].take()
    };
    assert_eq!(config("/v1.49")["Hostname"], "");
    assert_eq!((config("/v1.50").get("Hostname"), &config("/v1.50")["Cmd"]), (None, &json!(["/bin/sh"])));
    daemon.finish();
}

/// Each refused request: method, path, body; status and a part of the message.
const REFUSED: &[(&str, &str, &str, u16, &str)] = &[
    ("GET", "/nowhere", "", 404, "page not found"),
    ("GET", "/containers/none/json", "", 404, "No such container: none"),
    ("POST", "/containers/none/start", "", 404, "No such container: none"),
    ("POST", "/containers/none/kill", "", 404, "cannot kill container: none: No such container: none"),
    ("POST", "/containers/create", "{", 400, "invalid JSON"),
    ("POST", "/containers/create", r#"{"Image":5}"#, 400, "invalid type"),
    ("POST", "/containers/create", r#"{"Image":"missing"}"#, 404, "No such image: missing:latest"),
    ("POST", "/containers/create?name=-x", r#"{"Image":"busybox"}"#, 400, "Invalid container name (-x)"),
    (
        "POST",
        "/containers/create",
        r#"{"Image":"busybox","HostConfig":{"RestartPolicy":{"Name":"often"}}}"#,
        400,
        "invalid restart policy: unknown policy 'often'",
    ),
    ("POST", "/containers/create", r#"{"Image":"busybox","HostConfig":{"Memory":1}}"#, 400, "Minimum memory"),
    ("GET", "/containers/json?filters={", "", 400, "invalid"),
    ("GET", "/containers/json?filters=%7B%22nope%22:%5B%22x%22%5D%7D", "", 400, "invalid filter 'nope'"),
    ("GET", "/containers/json?limit=many", "", 400, "invalid value for limit"),
    ("GET", "/images/missing/json", "", 404, "No such image: missing:latest"),
    ("POST", "/images/busybox/tag?repo=UPPER", "", 400, "UPPER"),
    ("GET", "/networks/none0", "", 404, "network none0 not found"),
    ("DELETE", "/networks/bridge", "", 403, "pre-defined network"),
    ("POST", "/networks/create", r#"{"Name":"host"}"#, 403, "predefined host network"),
    ("GET", "/volumes/none", "", 404, "get none: no such volume"),
    ("GET", "/exec/beef/json", "", 404, "No such exec instance: beef"),
    ("GET", "/swarm", "", 503, "This node is not a swarm manager."),
    ("GET", "/services", "", 503, "This node is not a swarm manager."),
    ("GET", "/plugins/x/json", "", 404, "plugin \\\"x\\\" not found"),
];

#[test]
fn refusals_are_dockers_and_change_nothing() {
    let daemon = Daemon::start();
    for (method, path, body, status, message) in REFUSED {
        let answer = daemon.ask(method, path, body);
        assert_eq!(answer.status, *status, "{method} {path}: {answer:?}");
        assert!(answer.body.contains(message), "{method} {path}: {answer:?}");
        let parsed: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(parsed["message"].is_string(), "{method} {path}: {answer:?}");
    }
    assert_eq!(daemon.ask("GET", "/containers/json?all=1", "").body.trim(), "[]");
    daemon.finish();
}

#[test]
fn a_beginning_of_several_ids_is_none() {
    let daemon = Daemon::start();
    let body = r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"NetworkMode":"none"}}"#;
    let mut ids: Vec<String> = Vec::new();
    let digit = loop {
        let made: Value = serde_json::from_str(&daemon.ask("POST", "/containers/create", body).body).unwrap();
        let id = made["Id"].as_str().unwrap().to_owned();
        let digit = id[..1].to_owned();
        ids.push(id);
        if ids.iter().filter(|id| id.starts_with(&digit)).count() > 1 {
            break digit;
        }
    };
    let refused = daemon.ask("GET", &format!("/containers/{digit}/json"), "");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("multiple IDs found with provided prefix"), "{refused:?}");
    for id in ids {
        assert_eq!(daemon.ask("DELETE", &format!("/containers/{id}"), "").status, 204);
    }
    let refused = daemon.ask("POST", "/containers/create?platform=linux/riscv64", body);
    assert_eq!(
        (refused.status, refused.body.contains("does not match the specified")),
        (404, true),
        "{refused:?}"
    );
    daemon.finish();
}

#[test]
fn a_name_in_use_is_a_conflict_that_names_its_holder() {
    let daemon = Daemon::start();
    let body = r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"NetworkMode":"none"}}"#;
    let made = daemon.ask("POST", "/containers/create?name=web", body);
    assert_eq!(made.status, 201);
    let with_volume = r#"{"Image":"busybox","Cmd":["true"],"Volumes":{"/data":{}}}"#;
    assert_eq!(daemon.ask("POST", "/containers/create?name=web", with_volume).status, 409);
    let bad_volume =
        r#"{"Image":"busybox","Cmd":["true"],"HostConfig":{"Binds":["-x:/a"]},"Volumes":{"/data":{}}}"#;
    assert_eq!(daemon.ask("POST", "/containers/create?name=bad", bad_volume).status, 400);
    assert_eq!(daemon.ask("GET", "/containers/bad/json", "").status, 404);
    assert!(daemon.ask("GET", "/volumes", "").body.contains("\"Volumes\":[]"), "volumes are left behind");
    let id = serde_json::from_str::<Value>(&made.body).unwrap()["Id"].as_str().unwrap().to_owned();
    let again = daemon.ask("POST", "/containers/create?name=web", body);
    assert_eq!(again.status, 409);
    let text = "Conflict. The container name \\\"/web\\\" is already in use by container";
    assert!(again.body.contains(text) && again.body.contains(&id), "{again:?}");
    let stopped = daemon.ask("POST", "/containers/web/kill", "");
    assert_eq!((stopped.status, stopped.body.contains("is not running")), (409, true), "{stopped:?}");
    assert_eq!(daemon.ask("POST", "/containers/web/stop", "").status, 304);
    assert_eq!(daemon.ask("DELETE", "/containers/web", "").status, 204);
    daemon.finish();
}

#[test]
fn a_thousand_clients_who_say_nothing_hold_up_nobody() {
    const CLIENTS: usize = 1000;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let daemon = Daemon::start();
    let silent: Vec<_> =
        (0..CLIENTS).map(|_| std::os::unix::net::UnixStream::connect(daemon.socket()).unwrap()).collect();
    // Half of a head, and followers of events.
    for mut stream in &silent[..CLIENTS / 4] {
        std::io::Write::write_all(&mut stream, b"GET /containers/json HTTP/1.1\r\nHost:").unwrap();
    }
    for mut stream in &silent[CLIENTS / 4..CLIENTS / 2] {
        std::io::Write::write_all(&mut stream, b"GET /events HTTP/1.1\r\nHost: docker\r\n\r\n").unwrap();
    }
    assert_eq!(daemon.ask("GET", "/_ping", "").body, "OK");
    drop(silent);
    assert_eq!(daemon.ask("GET", "/_ping", "").body, "OK");
    daemon.finish();
}
