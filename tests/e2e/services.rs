//! Services that end though they should not.

use crate::checkout::Checkout;

#[test]
fn one_that_dies_during_a_step_ends_the_job_and_shows_its_log() {
    let checkout = Checkout::new(
        r#"
image: busybox:latest
jobs:
  uses:
    services:
      db:
        image: busybox:latest
        command: "nc -l -p 5432; echo last\" \"words; exit 3"
        health: "true"
    steps:
      - name: connects
        run: |
          until nc db 5432 < /dev/null 2> /dev/null; do sleep 0.1; done
          sleep 600
      - name: next
        run: echo next" "step
    post:
      always: [{ name: tidy, run: 'echo tidied" "up' }]
"#,
    );
    checkout
        .run()
        .assert_code(1)
        .assert_says(&["last words", "db", "ended with exit code 3", "tidied up"])
        .assert_silent_about(&["next step"]);
}
