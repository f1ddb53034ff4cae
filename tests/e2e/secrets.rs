//! Secrets: there for the jobs that name them, and never in the output.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::checkout::{Checkout, Ended};

const TOKEN: &str = "tok-5f3a9c-whole";
const KEY: [&str; 3] = ["first-line-of-key", "second-line-of-key", "third-line-of-key"];

#[test]
fn are_masked_whatever_way_they_are_written() {
    let checkout = Checkout::new(
        r#"
image: busybox:latest
jobs:
  named:
    secrets: [TOKEN, KEY]
    services:
      echoes: { image: "busybox:latest", command: "exec httpd -f", health: "true" }
    steps:
      - name: whole
        run: echo "token=$TOKEN."
      - name: pieces
        run: |
          printf 'pieces='
          for letter in $(echo "$TOKEN" | sed 's/./& /g'); do printf %s "$letter"; sleep 0.01; done
          echo .
      - name: lines
        run: |
          printf 'key=%s.\n' "$KEY"
          echo "$KEY" | while read -r line; do echo "line=$line."; done
      - name: encoded
        run: printf %s "$TOKEN" | base64 | sed 's/^/encoded=/'
  unnamed:
    steps:
      - name: environment
        run: |
          env
          echo "unnamed sees ${TOKEN-nothing} and ${KEY-nothing}"
"#,
    );
    let secrets = checkout.world.path().join("secrets");
    fs::write(&secrets, format!("# ours\nKEY=\"{}\"\n", KEY.join("\n"))).unwrap();
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    let ended = Ended::of(checkout.worker(&["run", "--secrets"]).arg(&secrets).env("TOKEN", TOKEN));
    ended
        .assert_code(0)
        .assert_says(&["token=***.", "key=***.", "line=***.", "encoded=***"])
        .assert_says(&["unnamed sees nothing and nothing"])
        .assert_silent_about(&KEY)
        .assert_silent_about(&[TOKEN, "dG9rLTVmM2E5Yy13aG9sZQ"]);
    let pieces = ended.written_by("named", "pieces");
    assert!(pieces.contains("pieces=***."), "{pieces}");
    checkout.world.assert_nothing_is_left();
}

#[test]
fn one_that_is_missing_is_named() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs:\n  a:\n    secrets: [ABSENT_TOKEN]\n    \
         steps: [{ name: only, run: 'echo only\" \"step' }]\n",
    );
    checkout
        .run()
        .assert_code(1)
        .assert_says(&["secret ABSENT_TOKEN is not set", "--secrets"])
        .assert_silent_about(&["only step"]);
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let checkout =
        Checkout::without_images("image: busybox:latest\njobs: { a: { steps: [{ run: echo }] } }\n");
    checkout.write("secrets", "A=1\n");
    fs::set_permissions(checkout.dir.join("secrets"), fs::Permissions::from_mode(0o644)).unwrap();
    let ended = Ended::of(&mut checkout.worker(&["run", "--secrets", "secrets"]));
    ended.assert_code(1).assert_says(&["secrets file secrets can be read by other users: chmod 600 it"]);
}
