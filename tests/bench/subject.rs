use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::EngineDaemon;

use crate::binary;

/// A command that takes Docker's words.
pub(crate) struct Subject {
    program: PathBuf,
    /// Lighter's daemon; Docker has its own.
    daemon: Option<EngineDaemon>,
}

impl Subject {
    pub(crate) fn lighter(world: &Path, images: &Path) -> Self {
        let archive = images.join("busybox.tar");
        tests::import_into(&world.join("root"), &world.join("run"), &archive, "busybox:latest");
        let mut command = Command::new(binary("engine"));
        environment(&mut command, world);
        let daemon = EngineDaemon::start(command, &world.join("engine.sock"));
        Self { program: binary("engine"), daemon: Some(daemon) }
    }

    /// The machine's Docker, if its daemon answers (DOCKER_HOST counts).
    pub(crate) fn docker(images: &Path) -> Option<Self> {
        let subject = Self { program: "docker".into(), daemon: None };
        let answers = subject.command(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !answers.is_ok_and(|status| status.success()) {
            return None;
        }
        let archive = images.join("busybox.tar");
        subject.output(&[
            "import",
            "--change",
            "CMD [\"sh\"]",
            &archive.display().to_string(),
            "busybox:latest",
        ]);
        Some(subject)
    }

    /// How long a command takes as a whole process.
    pub(crate) fn time(&self, args: &[&str]) -> Duration {
        let started = Instant::now();
        self.output(args);
        started.elapsed()
    }

    /// What a command prints.
    pub(crate) fn output(&self, args: &[&str]) -> String {
        let output = self.command(args).stdin(Stdio::null()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {args:?}: {stderr}", self.program.display());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The mean proportional set size of the supervisors of this world, in bytes (proc(5), smaps_rollup).
    pub(crate) fn supervisor_pss(&self) -> Option<u64> {
        self.daemon.as_ref()?;
        let mut sizes = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if !comm.starts_with("lighter-supervi") && comm.trim().parse::<u32>().is_err() {
                continue;
            }
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if !command.starts_with(b"lighter-supervisor\0") {
                continue;
            }
            let rollup = fs::read_to_string(entry.path().join("smaps_rollup")).unwrap_or_default();
            let pss = rollup
                .lines()
                .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse::<u64>().ok());
            sizes.extend(pss.map(|kib| kib * 1024));
        }
        (!sizes.is_empty()).then(|| sizes.iter().sum::<u64>() / sizes.len() as u64)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args);
        if let Some(daemon) = &self.daemon {
            command.env("DOCKER_HOST", daemon.host());
        } else {
            // The classic builder is what a plain installation has.
            command.env("DOCKER_BUILDKIT", "0");
        }
        command
    }
}

/// Points our commands at a world of their own.
pub(crate) fn environment(command: &mut Command, world: &Path) {
    command.env("LIGHTER_ROOT", world.join("root")).env("LIGHTER_RUN", world.join("run"));
}
