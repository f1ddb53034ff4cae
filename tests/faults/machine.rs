//! One engine root with its runs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use sha2::{Digest, Sha256};
use tests::{EngineDaemon, World};

use crate::left;

/// How long anything may take that takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A private engine root that has the busybox image.
pub(crate) struct Machine {
    daemon: OnceLock<EngineDaemon>,
    world: World,
    root: PathBuf,
    run: PathBuf,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let (root, run) = (world.dir("root"), world.dir("run"));
        let machine = Self { daemon: OnceLock::new(), world, root, run };
        machine.import();
        machine
    }

    /// With its root at a directory of another file system.
    pub(crate) fn with_root(root: PathBuf) -> Self {
        let world = World::new();
        let run = world.dir("run");
        Self { daemon: OnceLock::new(), world, root, run }
    }

    pub(crate) fn import(&self) {
        let image = binaries().join("../images/busybox.tar");
        tests::import_into(&self.root, &self.run, &image, "busybox:latest");
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn run_dir(&self) -> &Path {
        &self.run
    }

    pub(crate) fn path(&self) -> &Path {
        self.world.path()
    }

    /// The eight digits in the names of what this root has on the machine.
    pub(crate) fn instance(&self) -> String {
        let root = self.root.canonicalize().unwrap();
        hex::encode(&Sha256::digest(root.as_os_str().as_encoded_bytes())[..4])
    }

    /// The `engine` command, for which a daemon of this root is started if there is none.
    pub(crate) fn engine(&self, args: &[&str]) -> Command {
        let daemon = self.daemon.get_or_init(|| self.start_daemon());
        let mut command = self.command("engine");
        command.env("DOCKER_HOST", daemon.host()).args(args);
        command
    }

    fn start_daemon(&self) -> EngineDaemon {
        EngineDaemon::start(self.command("engine"), &self.socket())
    }

    /// Where its daemon listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.world.path().join("engine.sock")
    }

    /// Ends its daemon and starts another.
    pub(crate) fn restart_daemon(&mut self) {
        self.daemon = OnceLock::new();
        self.daemon.get_or_init(|| self.start_daemon());
    }

    /// The process of its daemon.
    pub(crate) fn daemon_pid(&self) -> Option<u32> {
        self.daemon.get().map(EngineDaemon::pid)
    }

    /// Opens the engine in this process, which sweeps, as every process does that opens it.
    pub(crate) fn open(&self) {
        tests::with_engine(&self.root, &self.run, async |_| {});
    }

    /// A binary of this workspace on this root.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(binaries().join(name));
        command
            .env("LIGHTER_ROOT", &self.root)
            .env("LIGHTER_RUN", &self.run)
            .env("LIGHTER_LOG", "warn")
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null());
        command
    }

    /// A checkout with a pipeline and other files.
    pub(crate) fn checkout(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = self.world.dir(name);
        for (name, content) in files {
            fs::write(dir.join(name), content).unwrap();
        }
        dir.join("pipeline.yaml")
    }

    /// `worker run` of a pipeline, to its end.
    pub(crate) fn run(&self, pipeline: &Path) -> Output {
        self.command("worker").arg("run").arg(pipeline).output().unwrap()
    }

    /// `worker run` of a pipeline, to be watched.
    pub(crate) fn start(&self, pipeline: &Path) -> Run {
        let mut command = self.command("worker");
        command.arg("run").arg(pipeline).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        for stream in [
            File::from(std::os::fd::OwnedFd::from(child.stdout.take().unwrap())),
            File::from(std::os::fd::OwnedFd::from(child.stderr.take().unwrap())),
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                }
            });
        }
        Run { child, lines, seen: String::new() }
    }

    /// A trivial run, which sweeps first, and how long it took in all.
    pub(crate) fn sweep_by_a_run(&self) -> Duration {
        let pipeline = self.checkout(
            "trivial",
            &[(
                "pipeline.yaml",
                "image: busybox:latest\njobs: {it: {network: none, steps: [{run: echo all is well}]}}\n",
            )],
        );
        let started = Instant::now();
        let output = self.run(&pipeline);
        assert!(output.status.success() && text(&output).contains("all is well"), "{}", text(&output));
        let duration = started.elapsed();
        assert!(!text(&output).contains("WARN"), "{}", text(&output));
        duration
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            left::nothing_is_left(self);
        }
        tests::remove_shared(&self.instance());
    }
}

/// A `worker run` under way.
pub(crate) struct Run {
    pub(crate) child: Child,
    lines: Receiver<String>,
    seen: String,
}

impl Run {
    /// Reads on until a line has the word; false if the run ended before.
    pub(crate) fn until(&mut self, word: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(word) {
                return true;
            }
        }
        assert!(Instant::now() < deadline, "{word:?} never came:\n{}", self.seen);
        false
    }

    /// Kills it; false if it had ended before.
    pub(crate) fn kill(&mut self) -> bool {
        self.child.kill().unwrap();
        self.child.wait().unwrap().signal() == Some(Signal::KILL.as_raw())
    }

    /// Waits for its end; whether it went well, and all it said.
    pub(crate) fn end(mut self) -> (bool, String) {
        let status = self.child.wait().unwrap();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        (status.success(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Polls until something holds; with what it says of itself, fails after a minute.
pub(crate) fn eventually(what: &mut dyn FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match what() {
            Ok(()) => return,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills a process; one that is gone is as good.
pub(crate) fn kill_process(pid: i32) {
    match rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(e) => panic!("kill {pid}: {e}"),
    }
}

pub(crate) fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Where cargo puts them in relation to this test's executable.
fn binaries() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().to_owned()
}
