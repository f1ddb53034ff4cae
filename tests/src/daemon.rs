//! Daemons for the tests that use the `engine` command.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use engine::Engine;
use engine_types::Paths;
use rustix::process::{Pid, Signal, kill_process};

/// An `engine daemon`, ended when dropped; containers run on.
#[derive(Debug)]
pub struct EngineDaemon {
    child: Child,
    host: String,
}

impl EngineDaemon {
    /// Runs `command`, an `engine` with its environment, as a daemon at a socket; returns once it listens.
    pub fn start(mut command: Command, socket: &Path) -> Self {
        command.arg("daemon").arg("-H").arg(address(socket));
        Self::run(command)
    }

    /// Runs `command`, a whole `engine daemon`; returns once it listens.
    #[expect(clippy::expect_used, reason = "a test without its daemon fails and says so")]
    pub fn run(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the engine command: cargo build --workspace --bins");
        let mut said = BufReader::new(child.stderr.take().expect("its standard error"));
        let (mut line, mut all) = (String::new(), String::new());
        let host = loop {
            line.clear();
            let length = said.read_line(&mut line).expect("what the daemon says");
            assert!(length > 0, "the daemon ended before it listened:\n{all}");
            if let Some((_, host)) = line.trim_end().split_once("listening at ") {
                break host.to_owned();
            }
            all.push_str(&line);
        };
        // It may go on to say something.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::stderr()));
        Self { child, host }
    }

    /// What `DOCKER_HOST` is for its clients.
    pub fn host(&self) -> String {
        self.host.clone()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for EngineDaemon {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::TERM); // it may have ended by itself
        let _ = self.child.wait();
    }
}

fn address(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}

/// Does something with the engine of a root in this process, as a worker would. May be called within a runtime.
#[expect(clippy::expect_used, reason = "a test whose engine does not open fails and says so")]
pub fn with_engine<T: Send>(root: &Path, run: &Path, action: impl AsyncFnOnce(&Engine) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let engine = Engine::open(Paths::host(root.to_owned(), run.to_owned())).await;
                action(&engine.expect("the engine opens")).await
            })
        });
        done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes an image of an archive of a root file system in the engine of a root, without a daemon.
#[expect(clippy::expect_used, reason = "a test without its images fails and says so")]
pub fn import_into(root: &Path, run: &Path, archive: &Path, name: &str) {
    use engine::image::{ContainerConfig, ImageConfig, Platform};
    let file = std::fs::File::open(archive)
        .unwrap_or_else(|error| panic!("{}: {error}: run make images", archive.display()));
    let platform = Platform::host();
    let config = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        config: ContainerConfig {
            cmd: Some(vec!["/bin/sh".to_owned()]),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            ..ContainerConfig::default()
        },
        ..ImageConfig::default()
    };
    let name = name.parse().expect("an image's name");
    with_engine(root, run, async |engine| {
        engine.images().import(file, config, Some(&name)).expect("an image of the archive");
        engine.images().sync().expect("the image on the disk");
    });
}
