//! Supervisors that are killed, alone or with everything else.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::left::{interfaces, mounts, nothing_is_left, processes, supervisors};
use crate::machine::{Machine, eventually, kill_process};

fn waiting(machine: &Machine, name: &str) -> PathBuf {
    let marker = machine.instance();
    let pipeline = format!(
        "image: busybox:latest\njobs:\n  it:\n    steps:\n      - name: wait\n        run: |\n          \
         echo step-of-{marker}\n          sleep 1000\n"
    );
    machine.checkout(name, &[("pipeline.yaml", &pipeline)])
}

#[test]
fn a_killed_supervisor_fails_the_job_and_says_so() {
    let machine = Machine::new();
    let mut run = machine.start(&waiting(&machine, "waiting"));
    assert!(run.until("step-of-"), "{}", run.end().1);
    for supervisor in supervisors(&machine) {
        kill_process(supervisor);
    }
    let (succeeded, said) = run.end();
    assert!(!succeeded, "{said}");
    assert!(said.contains("the job's container was killed"), "{said}");
    machine.sweep_by_a_run();
    nothing_is_left(&machine);
}

#[test]
fn everything_killed_at_once_is_gone_without_a_sweep() {
    let machine = Machine::new();
    let mut run = machine.start(&waiting(&machine, "waiting"));
    assert!(run.until("step-of-"), "{}", run.end().1);
    let supervisors = supervisors(&machine);
    assert!(!supervisors.is_empty());
    run.kill();
    for supervisor in supervisors {
        kill_process(supervisor);
    }
    eventually(&mut || {
        let mut left = processes(&machine);
        left.extend(mounts(&machine));
        left.extend(interfaces(&machine));
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    machine.sweep_by_a_run();
    nothing_is_left(&machine);
}

#[test]
fn two_runs_at_once_do_not_disturb_each_other() {
    let machine = Machine::new();
    let mut dead = machine.start(&waiting(&machine, "dead"));
    assert!(dead.until("step-of-"), "{}", dead.end().1);
    let mut alive = machine.start(&waiting(&machine, "alive"));
    assert!(alive.until("step-of-"), "{}", alive.end().1);
    dead.kill();
    // Sweeps the dead one, four times at once, and leaves the living one alone.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| machine.open());
        }
    });
    assert!(!supervisors(&machine).is_empty(), "the living run lost its container");
    assert!(alive.child.try_wait().unwrap().is_none(), "{}", alive.end().1);
    let trivial: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..2).map(|n| {
            let pipeline = machine.checkout(&format!("pair-{n}"), &[("pipeline.yaml",
                "image: busybox:latest\njobs: {it: {steps: [{run: echo well}], matrix: {N: [\"1\", \"2\"]}}}\n")]);
            let machine = &machine;
            scope.spawn(move || machine.run(&pipeline))
        }).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    for output in trivial {
        assert!(output.status.success(), "{}", crate::machine::text(&output));
    }
    alive.kill();
    machine.sweep_by_a_run();
    nothing_is_left(&machine);
}

/// A fork that has not come to its exec yet when its parent is killed.
#[test]
fn a_copy_of_a_dead_runs_lock_only_delays_its_sweep() {
    let machine = Machine::new();
    let mut run = machine.start(&waiting(&machine, "waiting"));
    assert!(run.until("step-of-"), "{}", run.end().1);
    let copy = session_lock(&machine, run.child.id());
    run.kill();
    std::thread::scope(|scope| {
        let sweep = scope.spawn(|| machine.sweep_by_a_run());
        // Until it has come to the lock: it makes its own session after that.
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(copy);
        sweep.join().unwrap();
    });
    nothing_is_left(&machine);
}

/// The lock of a process's session, shared with it.
fn session_lock(machine: &Machine, pid: u32) -> OwnedFd {
    let sessions = machine.run_dir().join("sessions");
    let mut entries =
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|entry| entry.unwrap().path());
    let lock =
        entries.find(|fd| std::fs::read_link(fd).is_ok_and(|file| file.starts_with(&sessions))).unwrap();
    let number = lock.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    rustix::process::pidfd_getfd(process, number, rustix::process::PidfdGetfdFlags::empty()).unwrap()
}
