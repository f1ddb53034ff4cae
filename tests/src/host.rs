//! A world as a host: the programs run in it, and what they leave on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::world::Daemon;
use crate::{EngineDaemon, World, import_into, with_engine};

/// The images that `make images` makes, and their archives.
const IMAGES: [(&str, &str); 2] =
    [("busybox:latest", "busybox.tar"), ("debian:bookworm-slim", "debian-bookworm-slim.tar")];

/// How long the kernel may take to remove the interfaces of a network namespace that is gone.
const KERNEL_CLEANUP: Duration = Duration::from_secs(5);
/// What the name of an interface left behind begins with.
const INTERFACE: &str = "interface";

impl World {
    /// Where this world's engine keeps what survives a reboot.
    pub fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    /// Where this world's engine keeps what does not.
    pub fn run_dir(&self) -> PathBuf {
        self.path().join("run")
    }

    /// One of our programs, to be run in this world. The `engine` command is given a daemon, started for the first of
    /// them and ended with the world.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.program(program);
        if program == "engine" {
            command.env("DOCKER_HOST", self.daemon_host());
        }
        command
    }

    /// One of our programs with this world's directories, without a daemon.
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(built(program));
        command
            .env("LIGHTER_ROOT", self.root())
            .env("LIGHTER_RUN", self.run_dir())
            .env("DOCKER_CONFIG", self.path())
            .env_remove("LIGHTER_LOG")
            .env_remove("DOCKER_HOST")
            .env("NO_COLOR", "1");
        command
    }

    /// Has the `engine` command of this world speak to a daemon that the test starts itself.
    pub fn set_daemon(&self, host: String) {
        *self.daemon() = Daemon::Other(host);
    }

    /// Ends this world's own daemon; the next command starts another.
    pub fn end_daemon(&self) {
        *self.daemon() = Daemon::None;
    }

    fn daemon_host(&self) -> String {
        let mut daemon = self.daemon();
        if let Daemon::None = *daemon {
            let socket = self.path().join("engine.sock");
            *daemon = Daemon::Own(EngineDaemon::start(self.program("engine"), &socket));
        }
        match &*daemon {
            Daemon::Own(own) => own.host(),
            Daemon::Other(host) => host.clone(),
            Daemon::None => String::new(),
        }
    }

    /// Imports one of the images that `make images` makes, by its name.
    #[expect(clippy::expect_used, reason = "a test without its images fails and says so")]
    pub fn import(&self, image: &str) {
        let (_, archive) =
            IMAGES.into_iter().find(|(name, _)| *name == image).expect("an image of make images");
        let path = target_dir().join("images").join(archive);
        import_into(&self.root(), &self.run_dir(), &path, image);
    }

    /// Does something with the engine of this world in this process, as a worker would.
    pub fn with_engine<T: Send>(&self, action: impl AsyncFnOnce(&engine::Engine) -> T + Send) -> T {
        with_engine(&self.root(), &self.run_dir(), action)
    }

    /// What the engine of this world has left on the machine though nothing of it runs: processes, mounts,
    /// interfaces, nftables elements, cgroup directories, sessions, containers, each with its name.
    pub fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.find_processes(&mut found);
        self.find_mounts(&mut found);
        self.find_interfaces(&mut found);
        self.find_firewall_elements(&mut found);
        self.find_cgroups(&mut found);
        list(&self.root().join("containers"), &mut found);
        for kind in ["containers", "networks", "sessions"] {
            list(&self.run_dir().join(kind), &mut found);
        }
        found
    }

    /// Fails if anything is left, saying what.
    pub fn assert_nothing_is_left(&self) {
        let deadline = Instant::now() + KERNEL_CLEANUP;
        let mut found = self.leftovers();
        // An interface is all that the kernel, not the engine, takes down, and it does so some time after the network
        // namespace has lost its last process.
        while !found.is_empty()
            && found.iter().all(|name| name.starts_with(INTERFACE))
            && Instant::now() < deadline
        {
            std::thread::sleep(KERNEL_CLEANUP / 100);
            found = self.leftovers();
        }
        assert_eq!(found, [""; 0], "left behind");
    }

    /// Eight hex digits that name this world's root among the machine's, as the engine derives them.
    fn instance(&self) -> String {
        let root = self.root().canonicalize().unwrap_or_else(|_| self.root());
        instance(&root)
    }

    /// A supervisor holds its lock and log open, a container's process a descriptor or its cgroup.
    fn find_processes(&self, found: &mut Vec<String>) {
        let cgroup = format!("lighter-{}", self.instance());
        let mut own = vec![std::process::id().to_string()];
        if let Daemon::Own(daemon) = &*self.daemon() {
            own.push(daemon.pid().to_string());
        }
        for process in entries(Path::new("/proc")) {
            let pid = name(&process);
            if own.contains(&pid) || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let links = entries(&process.join("fd"));
            let mut targets = links.iter().filter_map(|link| fs::read_link(link).ok());
            let holds = targets.any(|target| target.starts_with(self.path()));
            let in_cgroup =
                fs::read_to_string(process.join("cgroup")).is_ok_and(|text| text.contains(&cgroup));
            if holds || in_cgroup {
                let command = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
                found.push(format!("process {pid}: {}", command.replace('\0', " ")));
            }
        }
    }

    fn find_mounts(&self, found: &mut Vec<String>) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = self.path().display().to_string();
        found.extend(mounts.lines().filter(|line| line.contains(&own)).map(|line| format!("mount {line}")));
    }

    fn find_interfaces(&self, found: &mut Vec<String>) {
        let interfaces = interfaces(&self.instance());
        found.extend(interfaces.into_iter().map(|name| format!("{INTERFACE} {name}")));
    }

    fn find_firewall_elements(&self, found: &mut Vec<String>) {
        let table = self.table();
        let output = Command::new("nft").args(["list", "table", "inet", &table]).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let elements = text.lines().filter(|line| line.trim_start().starts_with("elements"));
        found.extend(elements.map(|line| format!("nft table {table}: {}", line.trim())));
    }

    fn table(&self) -> String {
        format!("lighter_{}", self.instance())
    }

    /// This world's directories of containers, in whatever hierarchies there are.
    fn find_cgroups(&self, found: &mut Vec<String>) {
        for parent in cgroups(&format!("lighter-{}", self.instance())) {
            let children = entries(&parent).into_iter().filter(|path| path.is_dir());
            found.extend(children.map(|path| format!("cgroup {}", path.display())));
        }
    }

    /// Removes what all containers of this world share and the engine keeps.
    pub(crate) fn remove_shared(&self) {
        if let Ok(root) = self.root().canonicalize() {
            remove_shared(&instance(&root));
        }
    }
}

/// Eight hex digits that name a root among the machine's, as the engine derives them.
fn instance(root: &Path) -> String {
    let hash = Sha256::digest(root.as_os_str().as_encoded_bytes());
    hash[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes what the engine keeps on the machine for a root's next containers: its default network's bridge, its
/// nftables table and its cgroup directories, as far as they were made.
pub fn remove_shared(instance: &str) {
    for interface in interfaces(instance) {
        _ = Command::new("ip").args(["link", "delete", &interface]).output();
    }
    _ = Command::new("nft").args(["delete", "table", "inet", &format!("lighter_{instance}")]).output();
    remove_cgroups(&format!("lighter-{instance}"));
}

/// Removes the empty cgroup directories of a name, in whatever hierarchies there are.
pub fn remove_cgroups(name: &str) {
    for dir in cgroups(name) {
        _ = fs::remove_dir(dir);
    }
}

/// The network interfaces of a root, by their alias.
fn interfaces(instance: &str) -> Vec<String> {
    let alias = format!("lighter:{instance}:");
    let ours = |interface: &PathBuf| {
        fs::read_to_string(interface.join("ifalias")).is_ok_and(|text| text.starts_with(&alias))
    };
    entries(Path::new("/sys/class/net")).iter().filter(|path| ours(path)).map(|path| name(path)).collect()
}

fn cgroups(parent: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = entries(top).into_iter().chain([top.to_owned()]);
    hierarchies.map(|dir| dir.join(parent)).filter(|dir| dir.is_dir()).collect()
}

/// Runs a command and fails unless it succeeds, with what it wrote.
#[expect(clippy::expect_used, reason = "a test without its programs fails and says so")]
pub fn expect_success(command: &mut Command) -> Output {
    let output = command.output().expect("a program of this workspace: cargo build --workspace --bins");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The path of one of our programs, built beside the test executables' directory.
#[expect(clippy::expect_used, reason = "a test without its programs fails and says so")]
pub fn built(program: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this executable");
    let path = own.ancestors().nth(2).expect("a profile's directory").join(program);
    assert!(path.is_file(), "{} is missing: run cargo build --workspace --bins", path.display());
    path
}

fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target")
}

fn list(dir: &Path, found: &mut Vec<String>) {
    found.extend(entries(dir).iter().map(|path| path.display().to_string()));
}

/// A directory's entries; none if it is gone, as a process's is once it has ended.
fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok().map(|e| e.path())).collect()
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
