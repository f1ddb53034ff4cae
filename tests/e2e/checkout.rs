//! A directory with a pipeline file, and `worker` run in it as a user would.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tests::{World, expect_success};

/// A directory in a world of its own, with `busybox:latest` there to be used.
pub(crate) struct Checkout {
    pub(crate) world: World,
    pub(crate) dir: PathBuf,
}

/// How `worker` ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A `worker` under way, in a process group of its own as a shell would start it.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stderr: ChildStderr,
    seen: String,
}

impl Checkout {
    pub(crate) fn new(pipeline: &str) -> Self {
        let checkout = Self::without_images(pipeline);
        checkout.world.import("busybox:latest");
        checkout
    }

    pub(crate) fn without_images(pipeline: &str) -> Self {
        let world = World::new();
        let dir = world.dir("checkout");
        let checkout = Self { world, dir };
        checkout.write("pipeline.yaml", pipeline);
        checkout
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: impl AsRef<Path>) -> String {
        let path = self.dir.join(path);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Runs git here, untouched by the user's configuration; what it printed.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let mut git = Command::new("git");
        git.current_dir(&self.dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@localhost"])
            .args(args);
        String::from_utf8(expect_success(&mut git).stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn worker(&self, args: &[&str]) -> Command {
        let mut command = self.world.command("worker");
        command.current_dir(&self.dir).args(args).stdin(Stdio::null());
        command
    }

    /// Runs the pipeline to its end; nothing may be left then.
    pub(crate) fn run(&self) -> Ended {
        let ended = Ended::of(&mut self.worker(&["run"]));
        self.world.assert_nothing_is_left();
        ended
    }

    pub(crate) fn start(&self) -> Running {
        let mut child = self
            .worker(&["run"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = child.stderr.take().unwrap();
        Running { child, lines, stderr, seen: String::new() }
    }
}

impl Ended {
    pub(crate) fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// Fails unless it ended so, showing what it wrote.
    pub(crate) fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "\n{self}");
        self
    }

    /// Fails unless all these texts were written.
    pub(crate) fn assert_says(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(self.says(text), "{text:?} was not written:\n{self}");
        }
        self
    }

    /// Fails if any of these texts was written.
    pub(crate) fn assert_silent_about(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(!self.says(text), "{text:?} was written:\n{self}");
        }
        self
    }

    /// All that a step wrote, and what was told of it, without the line ends.
    pub(crate) fn written_by(&self, job: &str, step: &str) -> String {
        let prefix = format!("[{job} | {step}] ");
        self.stdout.lines().filter_map(|line| line.strip_prefix(&prefix)).collect()
    }

    fn says(&self, text: &str) -> bool {
        self.stdout.contains(text) || self.stderr.contains(text)
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

impl Running {
    /// Reads on until a line with this text.
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            let Some(line) = self.lines.next() else {
                let mut stderr = String::new();
                self.stderr.read_to_string(&mut stderr).unwrap();
                panic!("ended without {text:?}:\n{}{stderr}", self.seen);
            };
            let line = line.unwrap();
            self.seen = format!("{}{line}\n", self.seen);
            if line.contains(text) {
                return;
            }
        }
    }

    /// Does what the terminal does at Ctrl-C: the whole process group gets it.
    pub(crate) fn interrupt(&self) {
        kill_process_group(Pid::from_child(&self.child), Signal::INT).unwrap();
    }

    pub(crate) fn wait(mut self) -> Ended {
        for line in self.lines {
            self.seen = format!("{}{}\n", self.seen, line.unwrap());
        }
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).unwrap();
        Ended { code: self.child.wait().unwrap().code(), stdout: self.seen, stderr }
    }
}
