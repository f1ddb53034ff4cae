//! What steps do to the run, seen from a pipe.

use crate::checkout::Checkout;

#[test]
fn lines_are_prefixed_and_the_summary_is_last() {
    let checkout =
        Checkout::new("image: busybox:latest\njobs: { a: { steps: [{ name: say, run: printf hi }] } }\n");
    let ended = checkout.run();
    ended.assert_code(0);
    assert!(ended.stdout.lines().any(|line| line == "[a | say] hi"), "{ended}");
    assert!(ended.stdout.lines().last().unwrap().starts_with("✓ run pipeline succeeded"), "{ended}");
}

#[test]
fn a_failure_that_is_allowed_is_told_as_such() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs: { a: { allow_failure: true, steps: [{ name: no, run: exit 3 }] } }\n",
    );
    checkout.run().assert_code(0).assert_says(&["step \"no\" failed with exit code 3 (allowed)"]);
}

#[test]
fn a_name_may_be_as_long_as_names_get() {
    let name = "n".repeat(63);
    let checkout = Checkout::new(&format!(
        "image: busybox:latest\njobs:\n  {name}:\n    matrix: {{ V: [a, b] }}\n    steps: [{{ run: echo $V }}]\n"
    ));
    checkout.run().assert_code(0);
}

#[test]
fn what_a_step_leaves_running_does_not_hold_the_job() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs:\n  a:\n    timeout: 1m\n    steps:\n      \
         - { name: leaves, run: 'sleep 600 & until pidof sleep; do usleep 1000; done' }\n      \
         - { name: finds, run: 'pidof sleep && echo still\" \"there' }\n",
    );
    checkout.run().assert_code(0).assert_says(&["still there"]);
}
