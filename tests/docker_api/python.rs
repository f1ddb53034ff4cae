//! Clients in Python: docker-py and testcontainers, from PyPI, as their users have them. What they do is in
//! `tests/docker_py`.

use std::path::Path;
use std::process::Command;

use super::daemon::Daemon;

fn pytest(file: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = tests.with_file_name("target").join("python/bin/python");
    assert!(python.is_file(), "{} is missing: run make python", python.display());
    let daemon = Daemon::start();
    let mut command = Command::new(python);
    command
        .args(["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"])
        .arg(tests.join("docker_py").join(file));
    command.env("DOCKER_HOST", daemon.host()).env("PYTHONDONTWRITEBYTECODE", "1");
    // No configuration of whoever runs the tests.
    let output = command.env("HOME", daemon.world.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn docker_py_runs_containers() {
    pytest("test_containers.py");
}

#[test]
fn docker_py_makes_networks_volumes_and_images() {
    pytest("test_objects.py");
}

#[test]
fn testcontainers_has_a_container_serve_a_test() {
    pytest("test_testcontainers.py");
}
