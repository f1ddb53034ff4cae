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
fn what_a_step_leaves_running_does_not_hold_the_job() {
    let checkout = Checkout::new(
        "image: busybox:latest\njobs:\n  a:\n    timeout: 1m\n    steps:\n      \
         - { name: leaves, run: 'sleep 600 & echo started' }\n      \
         - { name: finds, run: 'pidof sleep && echo still\" \"there' }\n",
    );
    checkout.run().assert_code(0).assert_says(&["still there"]);
}
