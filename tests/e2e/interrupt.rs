//! Ctrl-C: at first everything ends in order, at the second at once.

use std::time::{Duration, Instant};

use crate::checkout::Checkout;

/// What a step has to end after TERM; a second Ctrl-C does not wait that long.
const GRACE: Duration = Duration::from_secs(10);

#[test]
fn the_step_is_told_and_post_steps_run() {
    let checkout = Checkout::new(
        r#"
image: busybox:latest
jobs:
  long:
    services: { web: { image: "busybox:latest", command: "exec httpd -f", health: "true" } }
    steps:
      - name: waits
        run: |
          trap 'echo heard" "TERM; exit 1' TERM
          echo now" "waiting
          sleep 600 & wait
      - name: next
        run: echo next" "step
    post:
      always: [{ name: tidy, run: 'echo tidied" "up' }]
      failure: [{ name: look, run: 'echo looked" "at' }]
  later:
    needs: long
    steps: [{ name: only, run: 'echo later" "ran' }]
"#,
    );
    let mut running = checkout.start();
    running.wait_for("now waiting");
    running.interrupt();
    let ended = running.wait();
    ended
        .assert_code(1)
        .assert_says(&["heard TERM", "tidied up"])
        .assert_silent_about(&["next step", "later ran"]);
    checkout.world.assert_nothing_is_left();
}

#[test]
fn the_second_ends_it_at_once() {
    let checkout = Checkout::new(
        r#"
image: busybox:latest
jobs:
  stubborn:
    steps:
      - name: stays
        run: |
          trap 'echo heard" "TERM' TERM
          echo now" "waiting
          while :; do sleep 1 & wait || true; done
    post:
      always: [{ name: tidy, run: 'echo tidied" "up' }]
"#,
    );
    let mut running = checkout.start();
    running.wait_for("now waiting");
    running.interrupt();
    running.wait_for("heard TERM");
    let asked = Instant::now();
    running.interrupt();
    let ended = running.wait();
    assert!(asked.elapsed() < GRACE, "took {:?}:\n{ended}", asked.elapsed());
    ended.assert_code(1).assert_silent_about(&["tidied up"]);
    checkout.world.assert_nothing_is_left();
}

#[test]
fn a_job_that_waits_for_its_service_ends_too() {
    let checkout = Checkout::new(
        r#"
image: busybox:latest
jobs:
  waits:
    services: { db: { image: "busybox:latest", command: "exec sleep 600", health: "false" } }
    steps: [{ name: only, run: 'echo only" "step' }]
"#,
    );
    let mut running = checkout.start();
    running.wait_for("ervices");
    running.interrupt();
    running.wait().assert_code(1).assert_silent_about(&["only step"]);
    checkout.world.assert_nothing_is_left();
}
