//! Who builds: our engine (`ours`), or a Docker of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use sha2::{Digest, Sha256};
use tests::{World, expect_success};

/// When all files of the base image were last changed.
const BASE_TIME: &str = "--mtime=@900000000";
pub(crate) const BASE_NAME: &str = "busybox:latest";
/// How long a daemon may take to come up, the installation of its root included.
const DAEMON_START: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(50);

/// The image that cases start from: that of `make images`, its files' times long ago.
pub(crate) struct Base {
    world: World,
    /// The digest of its only layer.
    pub(crate) diff_id: String,
}

impl Base {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let original = target().join("images/busybox.tar");
        assert!(original.is_file(), "{} is missing: run make images", original.display());
        let root = world.dir("root");
        let tar = || Command::new("tar");
        expect_success(tar().arg("-xf").arg(original).arg("-C").arg(&root));
        // What every real image has, so that no runtime needs to make it.
        for dir in ["dev", "proc", "sys"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        for file in ["hosts", "hostname", "resolv.conf"] {
            fs::write(root.join("etc").join(file), "").unwrap();
        }
        let archive = world.path().join("base.tar");
        let owned = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", BASE_TIME];
        expect_success(tar().arg("-C").arg(&root).args(owned).arg("-cf").arg(&archive).arg("."));
        let digest = Sha256::digest(fs::read(&archive).unwrap());
        Self { world, diff_id: format!("sha256:{}", hex::encode(digest)) }
    }

    pub(crate) fn archive(&self) -> PathBuf {
        self.world.path().join("base.tar")
    }
}

/// Builds and saves images.
pub(crate) trait Builder {
    /// An empty directory that the builder can read.
    fn directory(&self, name: &str) -> PathBuf;

    /// Builds the directory's context and names the image.
    fn build(&self, context: &Path, name: &str, flags: &[String]) -> Output;

    /// Writes the image as an archive that `docker load` takes; gives the archive's path.
    fn save(&self, name: &str) -> PathBuf;
}

/// A Docker daemon in a root of its own, see `docker.sh`. Ended when dropped.
pub(crate) struct Dockerd {
    daemon: Child,
    root: PathBuf,
}

impl Dockerd {
    pub(crate) fn start(base: &Base) -> Self {
        let dir = target().join("docker");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker_compat/docker.sh");
        let log = fs::File::create(base.world.path().join("dockerd.log")).unwrap();
        let mut command = Command::new(script);
        let daemon = command.arg(&dir).stdin(Stdio::null()).stderr(log).spawn().unwrap();
        let mut docker = Self { daemon, root: dir.join("root") };
        docker.wait_until_it_answers(base);
        fs::copy(base.archive(), docker.root.join("work/base.tar")).unwrap();
        let change = ["import", "--change", r#"CMD ["/bin/sh"]"#, "/work/base.tar", BASE_NAME];
        expect_success(docker.client().args(change));
        docker
    }

    fn wait_until_it_answers(&mut self, base: &Base) {
        let deadline = Instant::now() + DAEMON_START;
        loop {
            let said = || fs::read_to_string(base.world.path().join("dockerd.log")).unwrap_or_default();
            if let Some(status) = self.daemon.try_wait().unwrap() {
                panic!("docker.sh ended with {status}:\n{}", said());
            }
            let up = self.root.join("work/docker.sock").exists();
            if up && self.client().arg("version").output().unwrap().status.success() {
                return;
            }
            assert!(Instant::now() < deadline, "the Docker daemon does not answer:\n{}", said());
            std::thread::sleep(POLL);
        }
    }

    /// Docker's client, in the mounts and the root of the daemon.
    fn client(&self) -> Command {
        let mut command = Command::new("nsenter");
        let target = format!("--target={}", self.daemon.id());
        command.args([&target, "--mount", "--root", "--wd=/", "env", "--ignore-environment", "HOME=/root"]);
        command.args(["PATH=/usr/sbin:/usr/bin", "DOCKER_HOST=unix:///work/docker.sock", "docker"]);
        command
    }

    /// A path as the daemon's root has it.
    fn inside(&self, path: &Path) -> PathBuf {
        Path::new("/").join(path.strip_prefix(&self.root).unwrap())
    }
}

impl Builder for Dockerd {
    fn directory(&self, name: &str) -> PathBuf {
        let path = self.root.join("work").join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    fn build(&self, context: &Path, name: &str, flags: &[String]) -> Output {
        let mut command = self.client();
        command.args(["build", "--network=none", "--progress=plain", "--tag", name]).args(flags);
        command.arg(self.inside(context)).output().unwrap()
    }

    fn save(&self, name: &str) -> PathBuf {
        let archive = self.root.join("work").join(format!("{name}.tar"));
        let inside = self.inside(&archive);
        expect_success(self.client().args(["save", "--output"]).arg(inside).arg(latest(name)));
        archive
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.daemon);
        // It ends its containerd before itself.
        _ = rustix::process::kill_process(pid, Signal::TERM);
        _ = self.daemon.wait();
    }
}

/// Without a tag, all images of that name would be saved.
pub(crate) fn latest(name: &str) -> String {
    format!("{name}:latest")
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target")
}
