//! Services that end, or never begin, though they should not.

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

#[test]
fn one_that_does_not_start_is_named_at_each_attempt_and_taken_down() {
    let checkout = Checkout::new(
        r#"
image: busybox:latest
jobs:
  uses:
    retry: 1
    services: { db: { image: "busybox:latest", command: [no-such-server] } }
    steps: [{ name: only, run: 'echo only" "step' }]
"#,
    );
    let reason = r#"service "db": exec: "no-such-server": executable file not found in $PATH"#;
    checkout
        .run()
        .assert_code(1)
        .assert_says(&[&format!("attempt 1 failed: {reason}"), &format!(": {reason}")])
        .assert_silent_about(&["only step", "in use", "take the job down"]);
}

#[test]
fn one_that_ends_while_it_is_probed_shows_its_log() {
    // Several, so that at least one of them goes away in the middle of a probe.
    let jobs: String = (0..8)
        .map(|number| {
            format!(
                "  a{number}:\n    services: {{ db: {{ image: busybox:latest, health: \"false\", \
                 command: \"usleep {number}0000; echo last' 'words of a{number}; exit 3\" }} }}\n    \
                 steps: [{{ run: 'true' }}]\n"
            )
        })
        .collect();
    let checkout = Checkout::new(&format!("image: busybox:latest\njobs:\n{jobs}"));
    let ended = checkout.run();
    ended.assert_code(1);
    for number in 0..8 {
        ended.assert_says(&[&format!("last words of a{number}")]);
    }
}
