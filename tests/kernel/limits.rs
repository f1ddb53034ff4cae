//! What limits do, on cgroup v1, v2 and hybrid hosts alike: as seen from inside, by the container's own files and by
//! what the kernel refuses.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;

use engine_runtime::spec::*;
use engine_runtime::{Client, ExecStreams, Exit, LaunchError, State};
use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::thread::{CapabilitySet, UnshareFlags, remove_capability_from_bounding_set};

use super::runtime::{Box, capture};

/// Shell functions that read a limit wherever this kernel has it: `limit V2-FILE V1-CONTROLLER V1-FILE`.
const PROBE: &str = "at=/sys/fs/cgroup; \
    limit() { if [ -e $at/cgroup.controllers ]; then cat $at/$1; else cat $at/$2/$3; fi; }; ";
/// A device number set aside for experiments (kernel docs, admin-guide/devices.txt), for which there is no driver:
/// opening it is either refused (EPERM) or finds no device (ENXIO), which is only looked for once it is allowed.
const NO_DEVICE: (u32, u32) = (240, 77);
const REFUSED: &str = "Operation not permitted";
const NOT_REFUSED: &str = "No such device or address";
const MIB: u64 = 1 << 20;

fn probe(world: &Box, script: &str, limit: impl FnOnce(&mut Spec)) -> (i32, String) {
    let mut spec = world.spec(&["sh", "-c", &format!("exec 2>&1; {PROBE}{script}")]);
    limit(&mut spec);
    world.run(&spec)
}

/// Whether the host has its controllers on v2.
fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

#[test]
fn a_container_out_of_memory_is_killed_and_says_so() {
    let world = Box::new();
    let mut spec = world.spec(&["tail", "/dev/zero"]); // has no line to give and keeps all
    spec.resources.memory = Some(32 * MIB);
    spec.resources.memory_swap = Some(32 * MIB);
    let exit = world.start(&spec).unwrap().wait().unwrap();
    assert_eq!(exit, Some(Exit { code: 137, oom_killed: true }));
    assert!(State::load(&spec.state_dir).unwrap().unwrap().oom_killed);
    let mut spec = world.spec(&["sh", "-c", "tail /dev/zero; exit 3"]);
    spec.resources.memory = Some(32 * MIB);
    spec.resources.memory_swap = Some(32 * MIB);
    let exit = world.start(&spec).unwrap().wait().unwrap();
    assert_eq!(exit, Some(Exit { code: 3, oom_killed: true }), "a child's end is not the container's");
    assert_eq!(world.run(&world.spec(&["sh", "-c", "kill -9 $$; exit 3"])).0, 3);
}

#[test]
fn memory_and_swap_are_limited() {
    let world = Box::new();
    let memory = "limit memory.max memory memory.limit_in_bytes; ";
    // v1 counts both together, v2 swap alone.
    let swap = "limit memory.swap.max memory memory.memsw.limit_in_bytes";
    let seen = |swap_limit| {
        probe(&world, &format!("{memory}{swap}"), |spec| {
            spec.resources.memory = Some(64 * MIB);
            spec.resources.memory_swap = swap_limit;
        })
    };
    let expected = |swap| {
        let second = if is_v2() { swap } else { 64 * MIB + swap };
        (0, format!("{}\n{second}\n", 64 * MIB))
    };
    assert_eq!(seen(Some(64 * MIB)), expected(0));
    assert_eq!(seen(Some(96 * MIB)), expected(32 * MIB));
    assert_eq!(seen(None), expected(64 * MIB), "as much again, as Docker does");
}

#[test]
fn processes_are_limited() {
    let world = Box::new();
    let script = "limit pids.max pids pids.max; for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done; wait";
    let (_, log) = probe(&world, script, |spec| spec.resources.pids = Some(5));
    assert!(log.starts_with("5\n"), "{log}");
    assert!(log.contains("can't fork: Resource temporarily unavailable"), "{log}");
}

#[test]
fn cpu_time_is_limited() {
    let world = Box::new();
    let quota = "if [ -e $at/cgroup.controllers ]; then cat $at/cpu.max; else \
        echo $(cat $at/cpu*/cpu.cfs_quota_us) $(cat $at/cpu*/cpu.cfs_period_us); fi; ";
    // Counts up until it has been made to wait once; without a limit it ends by itself, with nothing to show.
    let throttled = "i=0; while [ $i -lt 30000 ] && ! grep -q 'nr_throttled [1-9]' $at/cpu.stat $at/cpu*/cpu.stat; \
        do i=$((i+1)); done 2>/dev/null; cat $at/cpu.stat $at/cpu*/cpu.stat 2>/dev/null | grep -c 'nr_throttled [1-9]'";
    let script = format!("{quota}{throttled}");
    let (_, log) = probe(&world, &script, |spec| spec.resources.nano_cpus = Some(20_000_000));
    assert_eq!(log, "2000 100000\n1\n");
    let shares =
        "if [ -e $at/cgroup.controllers ]; then cat $at/cpu.weight; else cat $at/cpu*/cpu.shares; fi";
    let (_, log) = probe(&world, shares, |spec| spec.resources.cpu_shares = Some(2048));
    assert_eq!(log, if is_v2() { "79\n" } else { "2048\n" });
}

#[test]
fn cpus_are_chosen() {
    let world = Box::new();
    let script = "nproc; grep Cpus_allowed_list /proc/self/status | cut -f2";
    let (code, log) = probe(&world, script, |spec| spec.resources.cpuset_cpus = Some("0".into()));
    assert_eq!((code, log.as_str()), (0, "1\n0\n"));
    let mut spec = world.spec(&["true"]);
    spec.resources.cpuset_cpus = Some("7000".into());
    let error = world.start(&spec).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("set the cgroup limit /sys/fs/cgroup/"), "{error}");
    assert!(error.contains("cpuset.cpus: "), "{error}");
}

#[test]
fn devices_are_refused_unless_allowed() {
    assert_devices_are_limited(&Box::new());
}

/// The same where v2 is all there is, as far as a container can tell: so the BPF program is tried on every host that
/// these tests run on, those with v1 controllers too.
#[test]
fn devices_are_refused_on_v2_unless_allowed() {
    where_cgroups_are("cgroup2", || assert_devices_are_limited(&Box::new()));
}

/// There is no list to refuse by then, so no node can be made, and those that the image has are closed.
#[test]
fn devices_are_out_of_reach_where_there_are_no_cgroups() {
    where_cgroups_are("tmpfs", || {
        let world = Box::new();
        let node = world.world.dir("layer").join("tmp/zero");
        let (mode, zero) = (Mode::from_raw_mode(0o666), rustix::fs::makedev(1, 5));
        rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, mode, zero).unwrap();
        let (_, log) =
            probe(&world, "mknod /tmp/c c 240 77; head -c 1 /tmp/zero; head -c 1 /dev/zero | wc -c", |_| {});
        let expected = format!("mknod: /tmp/c: {REFUSED}\nhead: /tmp/zero: Permission denied\n1\n");
        assert_eq!(log, expected);
        assert_eq!(
            probe(&world, "head -c 1 /tmp/zero | wc -c", |spec| spec.security.all_devices = true).1,
            "1\n"
        );
        let warnings = world.start(&world.spec(&["true"])).unwrap().warnings;
        assert!(warnings.iter().any(|w| w.contains("no cgroup hierarchy is mounted")), "{warnings:?}");
    });
}

/// Runs `work` with one file system of this kind in the place of all hierarchies.
fn where_cgroups_are(kind: &str, work: impl FnOnce() + Send) {
    let at = "/sys/fs/cgroup";
    let enter = || {
        #[expect(deprecated, reason = "a mount namespace holds nothing that memory safety rests on")]
        rustix::thread::unshare(UnshareFlags::NEWNS | UnshareFlags::FS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        unmount(at, UnmountFlags::DETACH).unwrap();
        mount("none", at, kind, MountFlags::empty(), None).unwrap();
        work();
    };
    thread::scope(|scope| {
        scope.spawn(enter).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn assert_devices_are_limited(world: &Box) {
    let (major, minor) = NO_DEVICE;
    let open = format!(
        "mknod /tmp/c c {major} {minor}; cat /tmp/c; true > /tmp/c; mknod /tmp/b b 240 77; cat /tmp/b; \
         true > /dev/null && head -c 1 /dev/zero | wc -c"
    );
    let seen = |limit: fn(&mut Spec)| probe(world, &open, limit).1;
    let expected = |read, write, block| {
        format!(
            "cat: can't open '/tmp/c': {read}\nsh: can't create /tmp/c: {write}\ncat: can't open '/tmp/b': {block}\n1\n"
        )
    };
    assert_eq!(seen(|_| {}), expected(REFUSED, REFUSED, REFUSED));
    let read_only = seen(|spec| spec.security.devices.push(device(false, READ)));
    assert_eq!(read_only, expected(NOT_REFUSED, REFUSED, REFUSED));
    let both = seen(|spec| spec.security.devices.push(device(false, DeviceAccess::ALL)));
    assert_eq!(both, expected(NOT_REFUSED, NOT_REFUSED, REFUSED));
    let block = seen(|spec| spec.security.devices.push(device(true, DeviceAccess::ALL)));
    assert_eq!(block, expected(REFUSED, REFUSED, NOT_REFUSED));
    let all = seen(|spec| spec.security.all_devices = true);
    assert_eq!(all, expected(NOT_REFUSED, NOT_REFUSED, NOT_REFUSED));
}

const READ: DeviceAccess = DeviceAccess { read: true, write: false, mknod: false };

fn device(block: bool, access: DeviceAccess) -> Device {
    let (major, minor) = NO_DEVICE;
    Device { path: "/dev/listed".into(), block, major, minor, mode: 0o600, owner: (0, 0), access }
}

#[test]
fn a_listed_device_is_in_dev() {
    let world = Box::new();
    let script = "stat -c '%F %t %T %a' /dev/listed; cat /dev/listed";
    let (_, log) = probe(&world, script, |spec| spec.security.devices.push(device(false, READ)));
    assert_eq!(
        log,
        format!("character special file f0 4d 600\ncat: can't open '/dev/listed': {NOT_REFUSED}\n")
    );
}

#[test]
fn the_cgroup_file_system_is_read_only_and_shows_the_container_alone() {
    let world = Box::new();
    let script = "cut -d: -f3 /proc/self/cgroup | sort -u; \
        for d in $(find $at -type d); do mkdir $d/x 2>&1 | sed 's/.*: //'; done | sort -u; \
        for f in $(find $at -name cgroup.procs); do tr '\\n' ' ' < $f; done | tr ' ' '\\n' | grep -v '^$' | sort -u | head -n 1; \
        find $at -type d -name 'lighter*' -o -type d -name '*.slice' | wc -l";
    let (_, log) = probe(&world, script, |_| {});
    assert_eq!(log, "/\nRead-only file system\n1\n0\n");
    let writable = "for d in $(find $at -type d); do [ -e $d/cgroup.procs ] && mkdir $d/x && rmdir $d/x && echo made; done | sort -u";
    let (_, log) = probe(&world, writable, |spec| {
        spec.security.writable_sys = true;
        spec.security.capabilities = engine_runtime::Capabilities::all();
    });
    assert_eq!(log, "made\n");
}

#[test]
fn an_exec_sees_the_containers_limits_where_it_is_told_to_look() {
    let world = Box::new();
    let mut spec = world.spec(&[]);
    spec.init = true;
    spec.resources.memory = Some(64 * MIB);
    let running = world.start(&spec).unwrap();
    let (streams, mut out) = capture();
    // As programs that size themselves do it: by the path that they are told they are in.
    let script = "if [ -e $at/cgroup.controllers ]; then cat $at$(sed -n 's/^0:://p' /proc/self/cgroup)/memory.max; \
        else cat $at/memory$(sed -n 's/.*:memory://p' /proc/self/cgroup)/memory.limit_in_bytes; fi";
    let process = Process {
        args: ["sh", "-c", &format!("{PROBE}{script}")].map(String::from).into(),
        env: vec!["PATH=/bin".into()],
        ..Process::default()
    };
    let client = Client::connect(&spec.run_dir).unwrap();
    let exit = client.exec(&process, false, ExecStreams::Direct(streams)).unwrap().wait().unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!((exit.unwrap().code, text), (0, format!("{}\n", 64 * MIB)));
    running.signal(9).unwrap();
    running.wait().unwrap();
    assert_eq!(cgroups_of(&spec), [""; 0]);
}

#[test]
fn only_the_exec_that_ran_out_of_memory_says_so() {
    let world = Box::new();
    let mut spec = world.spec(&[]);
    spec.init = true;
    spec.resources.memory = Some(32 * MIB);
    spec.resources.memory_swap = Some(32 * MIB);
    let running = world.start(&spec).unwrap();
    let exec = |args: &[&str]| {
        let process = Process {
            args: args.iter().map(ToString::to_string).collect(),
            env: vec!["PATH=/bin".into()],
            ..Process::default()
        };
        let client = Client::connect(&spec.run_dir).unwrap();
        client.exec(&process, false, ExecStreams::Direct(capture().0)).unwrap().wait().unwrap().unwrap()
    };
    assert_eq!(exec(&["tail", "/dev/zero"]), Exit { code: 137, oom_killed: true });
    assert_eq!(exec(&["sh", "-c", "exit 3"]), Exit { code: 3, oom_killed: false });
    running.signal(9).unwrap();
    running.wait().unwrap();
}

#[test]
fn the_cgroups_go_with_the_container() {
    let world = Box::new();
    let mut spec = world.spec(&[]);
    spec.init = true;
    let running = world.start(&spec).unwrap();
    assert_ne!(cgroups_of(&spec), [""; 0]);
    running.signal(9).unwrap();
    running.wait().unwrap();
    assert_eq!(cgroups_of(&spec), [""; 0]);
    let mut failing = world.spec(&["nope"]);
    failing.resources.pids = Some(5);
    world.start(&failing).map(drop).unwrap_err();
    assert_eq!(cgroups_of(&failing), [""; 0]);
}

/// A container's directories in every hierarchy of the host.
fn cgroups_of(spec: &Spec) -> Vec<String> {
    let top = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(&top).unwrap().map(|entry| entry.unwrap().path()).chain([top.clone()]);
    let own = |hierarchy: PathBuf| hierarchy.join(&spec.cgroup_parent).join(spec.id.to_string());
    hierarchies.map(own).filter(|dir| dir.exists()).map(|dir| dir.display().to_string()).collect()
}

#[test]
fn without_cap_sys_resource_only_who_asks_for_more_is_refused() {
    let world = Box::new();
    let asking = |nofile| {
        let mut spec = world.spec(&["sh", "-c", "ulimit -n"]);
        spec.resources.rlimits.insert("nofile".into(), (Some(nofile), Some(nofile)));
        spec
    };
    let drop_capability = || {
        // From the bounding set of this thread, so what it executes as root has it no more.
        remove_capability_from_bounding_set(CapabilitySet::SYS_RESOURCE).unwrap();
        assert_eq!(world.sh("exit 7").0, 7);
        assert_eq!(world.run(&asking(64)), (0, "64\n".into()));
        world.start(&asking(1 << 29)).map(drop).unwrap_err()
    };
    let error: LaunchError = thread::scope(|scope| {
        scope.spawn(drop_capability).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    assert_eq!(error.to_string(), "set the rlimit nofile: Operation not permitted (os error 1)");
}
