//! What is wrong is named, with the place and the right exit code, and nothing is left.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tests::{built, expect_success};

use crate::checkout::{Checkout, Ended};

/// The user and group `nobody` of Debian.
const NOBODY: &str = "65534";

/// Both commands refuse the file with the same words, before the engine makes anything.
fn check(pipeline: &str, says: &[&str]) {
    let checkout = Checkout::without_images(pipeline);
    let checked = Ended::of(&mut checkout.worker(&["check", "pipeline.yaml"]));
    checked.assert_code(2).assert_says(says);
    let run = Ended::of(&mut checkout.worker(&["run"]));
    run.assert_code(2).assert_says(says);
    assert!(!checkout.world.root().exists() && !checkout.dir.join(".lighter").exists());
}

#[test]
fn a_file_that_is_not_there() {
    let checkout = Checkout::without_images("");
    for command in ["run", "check"] {
        let ended = Ended::of(&mut checkout.worker(&[command, "absent.yaml"]));
        ended.assert_code(2).assert_says(&["absent.yaml", "No such file or directory"]);
    }
}

#[test]
fn an_empty_file() {
    check("", &["pipeline.yaml"]);
}

#[test]
fn a_file_that_is_not_yaml() {
    check("image: busybox\njobs:\n  a: [\n", &["pipeline.yaml:"]);
}

#[test]
fn an_unknown_key_is_shown_with_its_line_and_the_nearest_one() {
    let pipeline = "image: busybox\njobs:\n  a:\n    stesp:\n      - run: echo\n";
    check(pipeline, &["pipeline.yaml:4:5", "stesp", "did you mean `steps`"]);
}

#[test]
fn jobs_that_need_each_other() {
    let pipeline = "image: busybox\njobs:\n  a: { needs: b, steps: [{ run: x }] }\n  \
                    b: { needs: a, steps: [{ run: x }] }\n";
    check(pipeline, &["pipeline.yaml:3:15", "jobs need each other: a → b → a"]);
}

#[test]
fn a_matrix_of_a_million() {
    let values = (0..100).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let mut pipeline = "image: busybox\njobs:\n  a:\n    steps: [{ run: x }]\n    matrix:\n".to_owned();
    for name in ["A", "B", "C"] {
        writeln!(pipeline, "      {name}: [{values}]").unwrap();
    }
    check(&pipeline, &["pipeline.yaml:", "1000000"]);
}

#[test]
fn aliases_that_grow_without_end() {
    let mut pipeline = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(pipeline, "a{level}: &a{level} [{below}]").unwrap();
    }
    check(&pipeline, &["pipeline.yaml"]);
}

#[test]
fn an_unknown_option() {
    let checkout = Checkout::without_images("");
    Ended::of(&mut checkout.worker(&["run", "--paralel", "2"]))
        .assert_code(2)
        .assert_says(&["--paralel", "'--parallel'"]);
}

#[test]
fn a_good_file_is_checked_without_being_run() {
    let checkout =
        Checkout::without_images("image: busybox:latest\njobs: { a: { steps: [{ run: echo }] } }\n");
    Ended::of(&mut checkout.worker(&["check", "pipeline.yaml"])).assert_code(0);
    assert!(!checkout.world.root().exists());
}

#[test]
fn an_image_whose_registry_cannot_be_reached() {
    let checkout =
        Checkout::without_images("image: 127.0.0.1:1/x:1\njobs: { a: { steps: [{ run: echo }] } }\n");
    checkout.run().assert_code(1).assert_says(&["127.0.0.1:1/x:1", "failed to reach registry 127.0.0.1:1"]);
}

#[test]
fn a_command_that_is_not_in_the_image() {
    let checkout =
        Checkout::new("image: busybox:latest\njobs: { a: { steps: [{ name: build, run: cargo build }] } }\n");
    checkout.run().assert_code(1).assert_says(&["cargo: not found", "failed with exit code 127"]);
}

#[test]
fn an_image_without_a_shell() {
    let checkout = Checkout::without_images(
        "image: shell-less:1\njobs: { a: { steps: [{ name: only, run: echo }, { run: echo only next }] } }\n",
    );
    let archive = checkout.world.path().join("rootfs.tar");
    expect_success(Command::new("tar").arg("-C").arg(&checkout.dir).arg("-cf").arg(&archive).arg("."));
    let world = &checkout.world;
    tests::import_into(&world.root(), &world.run_dir(), &archive, "shell-less:1");
    checkout
        .run()
        .assert_code(1)
        .assert_says(&[
            "failed with exit code 127",
            "the image shell-less:1 has no /bin/sh: steps need a POSIX shell, so use an image that has one",
        ])
        .assert_silent_about(&["No such file", "only next"]);
}

#[test]
fn a_user_who_is_not_in_the_image() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs: { a: { user: nosuch, steps: [{ name: only, run: id }] } }\n",
    );
    checkout.run().assert_code(1).assert_says(&["unable to find user nosuch"]);
}

fn check_dockerfile(dockerfile: &str, says: &[&str]) {
    let checkout =
        Checkout::new("image: { build: ci }\njobs: { a: { steps: [{ name: only, run: echo reached }] } }\n");
    checkout.write("ci/Dockerfile", dockerfile);
    checkout.run().assert_code(1).assert_says(says).assert_silent_about(&["reached"]);
}

#[test]
fn a_dockerfile_with_an_unknown_instruction() {
    check_dockerfile("FROM busybox:latest\n\nRUM echo\n", &["Dockerfile:3", "RUM"]);
}

#[test]
fn a_copy_of_what_is_not_there() {
    check_dockerfile(
        "FROM busybox:latest\nCOPY absent.txt /\n",
        &["Dockerfile:2", "absent.txt", "COPY absent.txt /"],
    );
}

#[test]
fn a_build_step_that_fails() {
    check_dockerfile(
        "FROM busybox:latest\nRUN echo before && exit 7\n",
        &["Dockerfile:2", "before", "RUN echo before && exit 7", "7"],
    );
}

#[test]
fn a_dockerfile_that_is_not_there() {
    let checkout =
        Checkout::new("image: { build: . }\njobs: { a: { steps: [{ name: only, run: echo }] } }\n");
    checkout.run().assert_code(1).assert_says(&["Dockerfile", "No such file or directory"]);
}

#[test]
fn a_user_who_is_not_root() {
    let checkout = Checkout::without_images("image: x\njobs: { a: { steps: [{ run: echo }] } }\n");
    // The build directory may be where others can't go.
    let program = checkout.dir.join("worker");
    fs::copy(built("worker"), &program).unwrap();
    fs::set_permissions(checkout.world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(program)
        .arg("run")
        .current_dir(&checkout.dir)
        .env("LIGHTER_ROOT", checkout.world.root())
        .env("LIGHTER_RUN", checkout.world.run_dir());
    Ended::of(&mut command).assert_code(1).assert_says(&["root", "sudo"]);
}
