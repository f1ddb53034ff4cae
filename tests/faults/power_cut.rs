//! A machine that went down with commits of the catalog that had not reached the disk.

use std::fs;

use crate::left::interfaces;
use crate::machine::{Machine, eventually, text};

#[test]
fn directories_that_no_row_names_are_removed_after_the_next_boot() {
    let mut machine = Machine::new();
    let engine = |machine: &Machine, arguments: &[&str]| {
        let output = machine.engine(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output).trim().to_owned()
    };
    let kept = engine(&machine, &["run", "-d", "--network", "none", "busybox:latest", "true"]);
    engine(&machine, &["wait", &kept]);
    let orphan = machine.root().join("containers").join("ab".repeat(32));
    fs::create_dir_all(orphan.join("upper/some/where")).unwrap();
    machine.restart_daemon();
    assert!(orphan.exists(), "it may be another process's, about to be named");
    fs::write(machine.root().join("boot"), "an earlier one").unwrap();
    machine.restart_daemon();
    assert!(!orphan.exists());
    engine(&machine, &["logs", &kept]);
    engine(&machine, &["rm", &kept]);
}

#[test]
fn a_bridge_goes_though_its_root_was_deleted() {
    let machine = Machine::new();
    let run = machine.engine(&["run", "--rm", "busybox:latest", "true"]).output().unwrap();
    assert!(run.status.success(), "{}", text(&run));
    // The default network's bridge stays for the next container; the container's own goes in the background.
    eventually(&mut || match &interfaces(&machine)[..] {
        [_] => Ok(()),
        found => Err(found.join("\n")),
    });
    fs::remove_dir_all(machine.root()).unwrap();
    machine.import();
    assert_eq!(interfaces(&machine), [""; 0]);
}
