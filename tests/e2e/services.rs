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
fn one_may_have_the_jobs_name() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs:\n  web:\n    services:\n      web:\n        image: busybox:latest\n        \
         command: mkdir /www; echo it\" \"serves > /www/x; exec httpd -f -h /www\n        \
         health: wget -q -O - http://127.0.0.1/x\n    steps: [{ run: wget -q -O - http://web/x }]\n",
    );
    checkout.run().assert_code(0).assert_says(&["it serves"]);
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

/// A job whose service is built of this Dockerfile; the step needs what the service has once it is healthy.
fn gated(dockerfile: &str, service: &str) -> Checkout {
    let checkout = Checkout::new(&format!(
        "image: busybox:latest\njobs:\n  uses:\n    services: {{ db: {{ image: {{ build: db }}, {service} }} }}\n    \
         steps: [{{ name: only, run: 'wget -q -O - http://db/ready' }}]\n"
    ));
    checkout.write("db/Dockerfile", dockerfile);
    checkout
}

const SLOW: &str = "command: 'sleep 1; mkdir /www; echo it\" \"is ready > /www/ready; exec httpd -f -h /www'";

#[test]
fn the_images_healthcheck_gates_and_is_not_awaited_for_its_interval() {
    let dockerfile =
        "FROM busybox:latest\nHEALTHCHECK --interval=1h CMD wget -q -O - http://127.0.0.1/ready\n";
    let checkout = gated(dockerfile, SLOW);
    checkout.run().assert_code(0).assert_says(&["it is ready"]);
}

#[test]
fn a_health_command_that_hangs_is_run_again() {
    let dockerfile = "FROM busybox:latest\n\
        HEALTHCHECK --timeout=2s CMD test -e /tried || { touch /tried; sleep 600; }; wget -q -O - http://127.0.0.1/ready\n";
    let checkout = gated(dockerfile, SLOW);
    checkout.run().assert_code(0).assert_says(&["it is ready"]);
}

#[test]
fn the_pipelines_health_comes_before_the_images() {
    let health = format!("{SLOW}, health: 'wget -q -O - http://127.0.0.1/ready'");
    let checkout = gated("FROM busybox:latest\nHEALTHCHECK CMD false\n", &health);
    checkout.run().assert_code(0).assert_says(&["it is ready"]);
}

#[test]
fn an_image_can_do_without_its_bases_healthcheck() {
    let dockerfile = "FROM busybox:latest AS base\nHEALTHCHECK CMD false\nFROM base\nHEALTHCHECK NONE\n";
    let checkout = gated(dockerfile, "command: 'exec sleep 600'");
    checkout.write(
        "pipeline.yaml",
        &checkout.read("pipeline.yaml").replace("wget -q -O - http://db/ready", "echo was reached"),
    );
    checkout.run().assert_code(0).assert_says(&["was reached"]);
}
