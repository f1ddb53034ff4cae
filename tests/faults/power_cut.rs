//! A machine that went down with commits of the catalog that had not reached the disk.

use std::fs;

use crate::left::interfaces;
use crate::machine::{Machine, eventually, text};

#[test]
fn directories_that_no_row_names_are_removed_after_the_next_boot() {
    let machine = Machine::new();
    let engine = |arguments: &[&str]| {
        let output = machine.command("engine").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output).trim().to_owned()
    };
    let kept = engine(&["run", "-d", "--network", "none", "busybox:latest", "true"]);
    engine(&["wait", &kept]);
    let orphan = machine.root().join("containers").join("ab".repeat(32));
    fs::create_dir_all(orphan.join("upper/some/where")).unwrap();
    engine(&["ps"]);
    assert!(orphan.exists(), "it may be another process's, about to be named");
    fs::write(machine.root().join("boot"), "an earlier one").unwrap();
    engine(&["ps"]);
    assert!(!orphan.exists());
    engine(&["logs", &kept]);
    engine(&["rm", &kept]);
}

#[test]
fn a_bridge_goes_though_its_root_was_deleted() {
    let machine = Machine::new();
    let run = machine.command("engine").args(["run", "--rm", "busybox:latest", "true"]).output().unwrap();
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
