//! What a job sees of the checkout, and what the checkout sees of the job.

use std::fs;

use tests::expect_success;

use crate::checkout::{Checkout, Ended};

#[test]
fn a_job_sees_what_is_not_committed_and_changes_nothing() {
    let checkout = Checkout::new(
        r#"
image: busybox:latest
jobs:
  look:
    steps:
      - name: look
        run: |
          echo "changed: $(cat changed.txt), untracked: $(cat dir/untracked.txt)"
          test ! -e ignored.txt
          test ! -e deleted.txt
          test -x script.sh
          echo "commit=$CI_COMMIT branch=$CI_BRANCH"
      - name: write
        run: |
          echo overwritten > changed.txt
          rm -r dir
          echo made > made.txt
    artifacts: { paths: [made.txt, changed.txt] }
"#,
    );
    for (path, text) in
        [("changed.txt", "old"), ("deleted.txt", "old"), ("script.sh", ""), (".gitignore", "ignored.txt\n")]
    {
        checkout.write(path, text);
    }
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(checkout.dir.join("script.sh"), executable).unwrap();
    checkout.git(&["init", "--quiet", "--initial-branch=trunk"]);
    checkout.git(&["add", "."]);
    checkout.git(&["commit", "--quiet", "--message=First"]);
    let commit = checkout.git(&["rev-parse", "HEAD"]);
    checkout.write("changed.txt", "new");
    checkout.write("dir/untracked.txt", "here");
    checkout.write("ignored.txt", "private");
    fs::remove_file(checkout.dir.join("deleted.txt")).unwrap();
    let before = checkout.git(&["status", "--porcelain", "--untracked-files=all"]);

    let ended = checkout.run();
    ended
        .assert_code(0)
        .assert_says(&["changed: new, untracked: here", &format!("commit={commit} branch=trunk")]);
    assert_eq!(checkout.git(&["status", "--porcelain", "--untracked-files=all"]), before);
    assert_eq!(checkout.read("changed.txt"), "new");
    assert_eq!(checkout.read("dir/untracked.txt"), "here");
    assert_eq!(checkout.read(".lighter/artifacts/look/made.txt"), "made\n");
    assert_eq!(checkout.read(".lighter/artifacts/look/changed.txt"), "overwritten\n");
}

#[test]
fn the_file_may_be_anywhere_in_the_checkout() {
    let checkout = Checkout::new("");
    let pipeline =
        "image: busybox:latest\njobs:\n  a:\n    steps: [{ name: a, run: 'echo top is $(cat top.txt)' }]\n";
    checkout.write("ci/pipeline.yaml", pipeline);
    checkout.write("top.txt", "there");
    checkout.git(&["init", "--quiet"]);
    let dir = checkout.dir.join("ci");
    let ended = Ended::of(checkout.worker(&["run", "pipeline.yaml"]).current_dir(dir));
    ended.assert_code(0).assert_says(&["top is there"]);
    checkout.world.assert_nothing_is_left();
}

#[test]
fn without_a_name_the_nearest_file_up_to_the_root_is_run() {
    let pipeline = |says: &str| {
        format!(
            "image: busybox:latest\njobs: {{ a: {{ steps: [{{ name: a, run: echo {says} in $(ls) }}] }} }}\n"
        )
    };
    let checkout = Checkout::new(&pipeline("outside"));
    checkout.write("repo/pipeline.yaml", &pipeline("top"));
    checkout.write("repo/sub/deep/file", "");
    let at = |dir: &str| Ended::of(checkout.worker(&["run"]).current_dir(checkout.dir.join(dir)));
    expect_success(std::process::Command::new("git").arg("init").arg("-q").arg(checkout.dir.join("repo")));
    at("repo/sub/deep").assert_code(0).assert_says(&["top in pipeline.yaml sub"]);
    fs::remove_file(checkout.dir.join("repo/pipeline.yaml")).unwrap();
    at("repo/sub").assert_code(2).assert_says(&["pipeline.yaml: No such file or directory"]);
}

#[test]
fn a_directory_outside_git_will_do() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs:\n  a:\n    steps:\n      - name: a\n        \
         run: 'echo \"file=$(cat file.txt) commit=<$CI_COMMIT>\" && echo made > made.txt'\n    \
         artifacts: { paths: made.txt }\n",
    );
    checkout.write("file.txt", "here");
    checkout.run().assert_code(0).assert_says(&["file=here commit=<>"]);
    assert_eq!(checkout.read(".lighter/artifacts/a/made.txt"), "made\n");
    assert_eq!(checkout.read(".lighter/.gitignore"), "*\n");
    assert!(!checkout.dir.join("made.txt").exists());
    // What a run keeps is not part of the next one's sources.
    checkout.write(
        "pipeline.yaml",
        "image: busybox:latest\njobs: { a: { steps: [{ run: 'test ! -e .lighter' }] } }\n",
    );
    checkout.run().assert_code(0);
}

#[test]
fn artifacts_go_where_they_are_wanted() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs:\n  a:\n    steps: [{ run: echo made > made.txt }]\n    \
         artifacts: { paths: made.txt }\n",
    );
    let elsewhere = checkout.world.path().join("elsewhere");
    let ended = Ended::of(checkout.worker(&["run", "--artifacts"]).arg(&elsewhere));
    ended.assert_code(0);
    assert_eq!(checkout.read(elsewhere.join("a/made.txt")), "made\n");
    assert!(!checkout.dir.join(".lighter").exists());
}

#[test]
fn what_is_odd_about_a_checkout_is_told_in_a_line() {
    let checkout =
        Checkout::new("image: busybox:latest\njobs: { a: { steps: [{ run: cat nested/file }] } }\n");
    checkout.write("nested/file", "found\n");
    checkout.write("nested/.git", "gitdir: /absent\n");
    let ended = checkout.run();
    ended.assert_code(0).assert_says(&["found"]);
    let warning = "worker: warning: a damaged repository in the checkout is copied without its history: ";
    assert!(ended.stderr.starts_with(warning) && ended.stderr.lines().count() == 1, "{ended}");
    let quiet = Ended::of(checkout.worker(&["run"]).env("LIGHTER_LOG", "off"));
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
}

#[test]
fn each_run_has_the_checkout_as_it_is_then() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs:\n  a:\n    steps:\n      - name: a\n        run: |\n          \
         echo \"has $(cat file) and $(ls dir)\"\n          echo spoiled > file\n          rm -r dir\n",
    );
    checkout.git(&["init", "--quiet"]);
    for (text, name) in [("one", "first"), ("two", "second"), ("two", "third")] {
        checkout.write("file", text);
        checkout.write(&format!("dir/{name}"), "");
        checkout.run().assert_code(0).assert_says(&[&format!("has {text} and {name}")]);
        fs::remove_dir_all(checkout.dir.join("dir")).unwrap();
        checkout.git(&["add", "."]);
        checkout.git(&["commit", "--quiet", "--allow-empty", "--message", name]);
    }
}

#[test]
fn another_run_of_the_same_checkout_changes_nothing_for_the_first() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs:\n  a:\n    steps:\n      - name: a\n        run: |\n          \
         echo \"begins with $(cat file)\"\n          test $(cat file) = two || while test ! -e /stop; do sleep 0.1; done\n          \
         echo \"ends with $(cat file)\"\n",
    );
    checkout.write("file", "one");
    let mut first = checkout.start();
    first.wait_for("begins with one");
    checkout.write("file", "two");
    Ended::of(&mut checkout.worker(&["run"])).assert_code(0).assert_says(&["ends with two"]);
    let containers = expect_success(checkout.world.command("engine").args(["ps", "--quiet"]));
    let id = String::from_utf8(containers.stdout).unwrap().trim().to_owned();
    expect_success(checkout.world.command("engine").args(["exec", &id, "touch", "/stop"]));
    first.wait().assert_code(0).assert_says(&["ends with one"]);
    checkout.world.assert_nothing_is_left();
}
