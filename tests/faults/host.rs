//! Hosts that lack something: the error says what, and what to do. What is hidden is hidden in a mount namespace of
//! the command's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use tests::{World, built, expect_success};

use crate::left::nothing_is_left;
use crate::machine::{Machine, text};

const NOBODY: &str = "65534";

/// A command after `hide`, a script, has changed the mounts it sees.
fn without(hide: &str, mounted: &Command) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc"]);
    let script = format!("{hide}\nexec \"$@\"");
    command.arg(script).arg("sh").arg(mounted.get_program()).args(mounted.get_args());
    let set = mounted.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.envs(set).output().unwrap()
}

/// A daemon that does not come to listen.
fn daemon(machine: &Machine) -> Command {
    let mut command = machine.command("engine");
    let address = format!("unix://{}", machine.socket().display());
    command.args(["daemon", "-H", &address]);
    command
}

#[track_caller]
fn assert_says(output: &Output, code: i32, says: &[&str]) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    for words in says {
        assert!(text(output).contains(words), "without {words:?}: {}", text(output));
    }
}

#[test]
fn a_host_without_nft() {
    let machine = Machine::new();
    let hide = "for nft in /usr/sbin/nft $(command -v nft); do mount --bind /dev/null \"$nft\"; done";
    let run = |network: &str| {
        let jobs = format!("jobs: {{it: {{{network} steps: [{{run: echo all is well}}]}}}}\n");
        let pipeline =
            machine.checkout("project", &[("pipeline.yaml", &format!("image: busybox:latest\n{jobs}"))]);
        let mut command = machine.command("worker");
        command.arg("run").arg(pipeline);
        without(hide, &command)
    };
    // A network takes firewall rules; none takes none.
    assert_says(&run(""), 1, &["nft not found", "install the nftables package"]);
    nothing_is_left(&machine);
    assert_says(&run("network: none,"), 0, &["all is well"]);
}

#[test]
fn a_kernel_without_overlayfs() {
    let machine = Machine::new();
    let listed = machine.path().join("filesystems");
    let all = fs::read_to_string("/proc/filesystems").unwrap();
    let rest: Vec<&str> = all.lines().filter(|line| !line.ends_with("overlay")).collect();
    assert!(rest.len() < all.lines().count(), "this kernel has no overlayfs loaded");
    fs::write(&listed, rest.join("\n")).unwrap();
    let hide = format!(
        "mount --bind {} /proc/filesystems; mkdir -p /lib/modules; mount -t tmpfs none /lib/modules",
        listed.display()
    );
    assert_says(&without(&hide, &daemon(&machine)), 125, &["overlayfs", "CONFIG_OVERLAY_FS"]);
}

#[test]
fn a_root_that_cannot_hold_what_containers_write() {
    let world = World::new();
    let root = world.dir("root");
    let machine = Machine::with_root(root.clone());
    let parts = ["lower", "upper", "work"].map(|name| world.dir(name));
    let [lower, upper, work] = parts.each_ref().map(|path| path.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let hide = format!("mount -t overlay -o {options} none {}", root.display());
    let output = without(&hide, &daemon(&machine));
    assert_says(&output, 125, &[root.to_str().unwrap(), "overlayfs", "LIGHTER_ROOT"]);
}

#[test]
fn a_user_who_is_not_root() {
    let world = World::new();
    // The build directory may be where others cannot go.
    let program = world.path().join("engine");
    fs::copy(built("engine"), &program).unwrap();
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let user = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
    let mut command = Command::new("setpriv");
    command.args(user).arg(&program).arg("daemon").env("LIGHTER_ROOT", world.path().join("root"));
    let output = command.output().unwrap();
    assert_says(&output, 125, &["the engine needs root", "sudo"]);
    assert!(!world.path().join("root").exists());
    expect_success(Command::new(program).arg("--version"));
}
