//! The `engine` command as a user has it, in a world of its own.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tests::{World, expect_success};

use crate::checkout::Ended;

/// How long a server may take to listen, and a killed container to be gone.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const SERVER: [&str; 4] =
    ["busybox:latest", "sh", "-c", "mkdir /www; echo served > /www/x; exec httpd -f -h /www"];

/// A host with a busybox image; its containers are removed at the end.
pub(crate) struct Host(pub(crate) World);

impl Host {
    pub(crate) fn new() -> Self {
        let world = World::new();
        world.import("busybox:latest");
        Self(world)
    }

    pub(crate) fn engine(&self, args: &[&str]) -> Command {
        let mut command = self.0.command("engine");
        command.args(args);
        command
    }

    /// What a command printed, which must succeed.
    pub(crate) fn says(&self, args: &[&str]) -> String {
        let output = expect_success(&mut self.engine(args));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn fails(&self, args: &[&str]) -> Ended {
        Ended::of(&mut self.engine(args))
    }

    /// Runs a server in the background, of this name, with these options; the container's id.
    pub(crate) fn serve(&self, name: &str, options: &[&str]) -> String {
        self.says(&[&["run", "-d", "--name", name], options, &SERVER].concat())
    }

    /// A column of `engine ps --all` for a container.
    pub(crate) fn column(&self, name: &str, column: &str) -> String {
        let (filter, format) = (format!("name=^/{name}$"), format!("{{{{.{column}}}}}"));
        self.says(&["ps", "--all", "--filter", &filter, "--format", &format])
    }

    /// Its status without the time.
    pub(crate) fn status(&self, name: &str) -> String {
        let status = self.column(name, "Status");
        match status.split_once(' ') {
            Some(("Up", rest)) => match rest.find('(') {
                Some(health) => format!("Up {}", &rest[health..]),
                None => "Up".to_owned(),
            },
            _ => match status.find(')') {
                Some(end) => status[..=end].to_owned(),
                None => status,
            },
        }
    }

    /// Waits until a container has a status.
    pub(crate) fn await_status(&self, name: &str, status: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.status(name) != status {
            assert!(Instant::now() < deadline, "{:?}", self.column(name, "Status"));
        }
    }

    /// The elements of this world's maps of published ports.
    pub(crate) fn rules(&self) -> Vec<String> {
        self.0.leftovers().into_iter().filter(|left| left.contains("nft") && left.contains("tcp")).collect()
    }

    /// Kills a container's supervisor, and the container with it, and waits until it is gone.
    pub(crate) fn kill_supervisor(&self, id: &str) {
        let short = &id[..12];
        let supervisors = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let entry = entry.unwrap();
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            (command == format!("lighter-supervisor\0{short}\0")).then_some(Pid::from_raw(pid)?)
        });
        for supervisor in supervisors {
            kill_process(supervisor, Signal::KILL).unwrap();
        }
        let alive = || engine::runtime::is_alive(&self.0.run_dir().join("containers").join(id)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while alive() {
            assert!(Instant::now() < deadline, "it does not end");
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let listed = self.engine(&["ps", "-aq"]).output().unwrap();
        for id in String::from_utf8_lossy(&listed.stdout).lines() {
            _ = self.engine(&["rm", "-f", id]).output();
        }
    }
}
