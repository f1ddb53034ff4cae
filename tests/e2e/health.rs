//! Health checks of images and of `engine run`, as `engine ps` shows them.

use crate::host::Host;

const SLEEP: [&str; 3] = ["busybox:latest", "sleep", "1000"];

#[test]
fn a_container_is_healthy_or_not_as_its_command_says() {
    let host = Host::new();
    let check = ["--health-cmd", "test -e /works", "--health-interval", "50ms", "--health-retries", "1"];
    host.says(&[&["run", "-d", "--name", "web"], &check[..], &SLEEP].concat());
    host.await_status("web", "Up (unhealthy)");
    host.says(&["exec", "web", "touch", "/works"]);
    host.await_status("web", "Up (healthy)");
}

#[test]
fn an_images_check_holds_unless_it_is_taken_away() {
    let host = Host::new();
    let dir = host.0.dir("image");
    let dockerfile = "FROM busybox:latest\nHEALTHCHECK --interval=1h CMD true\nCMD [\"sleep\", \"1000\"]\n";
    std::fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    host.says(&["build", "-t", "probed:latest", dir.to_str().unwrap()]);
    host.says(&["run", "-d", "--name", "slow", "probed:latest"]);
    assert_eq!(host.status("slow"), "Up (health: starting)");
    host.says(&["run", "-d", "--name", "fast", "--health-interval", "50ms", "probed:latest"]);
    host.await_status("fast", "Up (healthy)");
    host.says(&["run", "-d", "--name", "without", "--no-healthcheck", "probed:latest"]);
    assert_eq!(host.status("without"), "Up");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let host = Host::new();
    for (options, code, says) in [
        (&["--health-interval", "1us"][..], 125, "Interval in Healthcheck cannot be less than 1ms"),
        (
            &["--no-healthcheck", "--health-cmd", "x"],
            125,
            "--no-healthcheck conflicts with --health-* options",
        ),
    ] {
        let refused = host.fails(&[&["run"], options, &SLEEP].concat());
        refused.assert_code(code).assert_says(&[says]);
    }
    assert_eq!(host.says(&["ps", "-aq"]), "");
}
