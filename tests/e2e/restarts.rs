//! `engine run --restart`, and who comes back after the machine was restarted.

use std::time::Instant;

use crate::host::{Host, PATIENCE};

impl Host {
    /// Does what the daemon does when it starts; the names of the containers that it started.
    fn boot(&self) -> Vec<String> {
        self.0.with_engine(async |engine| {
            let mut names = Vec::new();
            for (id, result) in engine.restart_policies_after_boot().await.unwrap() {
                result.unwrap();
                names.push(engine.container(&id.to_string()).await.unwrap().name);
            }
            names.sort();
            names
        })
    }
}

#[test]
fn a_container_comes_back_with_its_address_and_its_ports() {
    let host = Host::new();
    let script = "hostname -i; test -e /second && exec sleep 1000; touch /second; exit 7";
    let run = ["run", "--name", "web", "--restart", "always", "-p", "127.0.0.1::80", "busybox:latest"];
    host.fails(&[&run[..], &["sh", "-c", script]].concat()).assert_code(7);
    host.await_status("web", "Up");
    let deadline = Instant::now() + PATIENCE;
    while host.says(&["logs", "web"]).lines().count() < 2 {
        assert!(Instant::now() < deadline, "{}", host.says(&["logs", "web"]));
    }
    let log = host.says(&["logs", "web"]);
    let addresses: Vec<&str> = log.lines().collect();
    assert_eq!(addresses[0], addresses[1], "{log}");
    assert_eq!(host.rules().len(), 1, "its port is published");
    assert!(host.says(&["port", "web"]).starts_with("80/tcp -> 127.0.0.1:"));
    host.says(&["stop", "-t", "0", "web"]);
    host.await_status("web", "Exited (137)");
    assert_eq!(host.rules(), [""; 0]);
}

#[test]
fn one_that_waits_to_be_restarted_says_so_and_can_be_stopped_and_removed() {
    let host = Host::new();
    for name in ["one", "two"] {
        host.says(&[
            "run",
            "-d",
            "--name",
            name,
            "--restart",
            "always",
            "busybox:latest",
            "sh",
            "-c",
            "exit 3",
        ]);
        host.await_status(name, "Restarting (3)");
    }
    host.says(&["stop", "one"]);
    host.await_status("one", "Exited (3)");
    host.fails(&["rm", "two"]).assert_code(1).assert_says(&["is running"]);
    host.says(&["rm", "-f", "two"]);
}

#[test]
fn after_a_boot_those_come_back_whose_policy_says_so() {
    let host = Host::new();
    let run = |name: &str, policy: &str| {
        host.says(&["run", "-d", "--name", name, "--restart", policy, "busybox:latest", "sleep", "1000"])
    };
    let killed = ["always", "unless-stopped", "on-failure", "no"].map(|policy| run(policy, policy));
    for policy in ["always", "unless-stopped"] {
        let name = format!("stopped-{policy}");
        run(&name, policy);
        host.says(&["stop", "-t", "0", &name]);
    }
    for id in &killed {
        host.kill_supervisor(id);
    }
    assert_eq!(host.boot(), ["always", "on-failure", "stopped-always", "unless-stopped"]);
    for name in ["always", "on-failure", "stopped-always", "unless-stopped"] {
        assert_eq!(host.status(name), "Up", "{name}");
    }
    assert_eq!(host.boot(), [""; 0], "those that run are left alone");
}

#[test]
fn texts_that_are_no_policies_are_refused_in_dockers_words() {
    let host = Host::new();
    for (options, says) in [
        (&["--restart", "sometimes"][..], "invalid restart policy: unknown policy 'sometimes'"),
        (&["--restart", "always:2"], "maximum retry count can only be used with 'on-failure'"),
        (&["--restart", "always", "--rm"], "conflicting options: cannot specify both --restart and --rm"),
    ] {
        let command = [&["run"], options, &["busybox:latest", "true"]].concat();
        host.fails(&command).assert_code(125).assert_says(&[says]);
    }
    assert_eq!(host.says(&["ps", "-aq"]), "");
}
