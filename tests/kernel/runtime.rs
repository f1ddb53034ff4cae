//! Containers of `engine-runtime` on the running kernel, without images or networks.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use engine_runtime::spec::*;
use engine_runtime::{
    Capabilities, Client, ExecStreams, Exit, Hierarchies, Joined, LaunchError, Launcher, RestartPolicy,
    Running, State, Status, StdStreams,
};
use engine_types::{ContainerId, Paths};
use rustix::pipe::{PipeFlags, pipe_with};
use tests::{World, busybox_layer};

pub(crate) struct Box {
    pub(crate) world: World,
}

impl Box {
    pub(crate) fn new() -> Self {
        let world = World::new();
        busybox_layer(&world.dir("layer"));
        Self { world }
    }

    pub(crate) fn spec(&self, args: &[&str]) -> Spec {
        let mut id = [0; 32];
        rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).unwrap();
        let id = ContainerId::from_random(id);
        let dir = self.world.dir(id.short());
        let sub = |name: &str| self.world.dir(dir.join(name));
        Spec {
            id,
            rootfs: Rootfs {
                layers: vec![self.world.dir("layer")],
                upper: sub("upper"),
                work: sub("work"),
                read_only: false,
                volatile: true,
            },
            run_dir: sub("run"),
            process: Process {
                args: args.iter().map(ToString::to_string).collect(),
                env: vec!["PATH=/bin".into()],
                ..Process::default()
            },
            init: false,
            hostname: "box".into(),
            domainname: String::new(),
            mounts: Vec::new(),
            namespaces: Namespaces::default(),
            user_namespace: None,
            security: Security::default(),
            resources: Resources::default(),
            sysctls: BTreeMap::new(),
            shm_size: 64 << 20,
            log: Some(LogConfig {
                path: dir.join("log.json"),
                max_size: None,
                max_files: 1,
                attrs: BTreeMap::new(),
                forward: None,
            }),
            dns: None,
            tether: true,
            cgroup_parent: self.cgroup_parent(),
            restart: RestartPolicy::No,
            health: None,
            cleanup: None,
            state_dir: dir,
        }
    }

    fn cgroup_parent(&self) -> String {
        self.world.path().file_name().unwrap().to_string_lossy().into_owned()
    }

    pub(crate) fn start(&self, spec: &Spec) -> Result<Running, LaunchError> {
        Launcher::beside_current_exe()
            .unwrap()
            .start(spec, StdStreams::Supervised, &Joined::default())?
            .proceed(None, None)
    }

    /// Runs to the end: exit code and log.
    pub(crate) fn run(&self, spec: &Spec) -> (i32, String) {
        let exit = self.start(spec).unwrap_or_else(|e| panic!("{e}")).wait().unwrap().unwrap();
        (exit.code, log_text(&spec.state_dir))
    }

    pub(crate) fn sh(&self, script: &str) -> (i32, String) {
        self.run(&self.spec(&["sh", "-c", script]))
    }
}

impl Drop for Box {
    fn drop(&mut self) {
        let hierarchies = Hierarchies::detect(&Paths::host("", "")).unwrap();
        hierarchies.sweep(&self.cgroup_parent(), |_| Some(())).unwrap();
        tests::remove_cgroups(&self.cgroup_parent());
    }
}

pub(crate) fn log_text(dir: &Path) -> String {
    let mut reader = engine_runtime::log::Reader::open(dir.join("log.json")).unwrap();
    let lines = reader.read_more().unwrap();
    lines.iter().map(|line| format!("{}{}", line.text, if line.newline { "\n" } else { "" })).collect()
}

pub(crate) fn capture() -> ([OwnedFd; 3], std::fs::File) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let stdin = std::fs::File::open("/dev/null").unwrap().into();
    ([stdin, write.try_clone().unwrap(), write], read.into())
}

#[test]
fn runs_a_program_and_reports_its_exit_code_and_output() {
    let (code, log) = Box::new().sh("echo out; echo err >&2; hostname; exit 7");
    assert_eq!(code, 7);
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["box", "err", "out"]);
}

#[test]
fn a_signal_gives_128_and_its_number() {
    assert_eq!(Box::new().sh("kill -9 $$; true").0, 0, "PID 1 cannot be killed from inside");
    assert_eq!(Box::new().sh("sh -c 'kill -15 $$'; exit $?").0, 143);
    let world = Box::new();
    let spec = world.spec(&["sleep", "1000"]);
    let running = world.start(&spec).unwrap();
    running.signal(9).unwrap();
    assert_eq!(running.wait().unwrap(), Some(Exit { code: 137, oom_killed: false }));
    let state = State::load(&spec.state_dir).unwrap().unwrap();
    assert_eq!((state.status, state.exit_code), (Status::Exited, Some(137)));
}

#[test]
fn set_up_failures_name_the_step_and_the_path() {
    let world = Box::new();
    let error = |spec: &Spec| world.start(spec).map(|_| ()).unwrap_err();
    let missing = error(&world.spec(&["nope"]));
    assert_eq!(
        (missing.exit_code(), missing.to_string().as_str()),
        (127, r#"exec: "nope": executable file not found in $PATH"#)
    );
    assert_eq!(error(&world.spec(&["/etc"])).exit_code(), 126);
    let mut spec = world.spec(&["true"]);
    spec.process.user = "bob".into();
    assert_eq!(error(&spec).to_string(), "unable to find user bob: no matching entries in passwd file");
    let mut spec = world.spec(&["true"]);
    let source = PathBuf::from("/nonexistent/source");
    spec.mounts.push(bind(source, "/mnt", false));
    let error_text = error(&spec).to_string();
    assert!(error_text.starts_with("open the bind source /nonexistent/source: No such file"), "{error_text}");
    let mut spec = world.spec(&["true"]);
    spec.rootfs.layers = vec!["/nonexistent/layer".into()];
    let error_text = error(&spec).to_string();
    assert!(error_text.starts_with("open the image layer /nonexistent/layer"), "{error_text}");
}

/// Several at once, so that some end before their supervisor turns to them.
#[test]
fn a_set_up_that_fails_at_once_is_told_as_it_was() {
    let world = Box::new();
    let fail = || {
        for _ in 0..10 {
            let mut spec = world.spec(&["true"]);
            spec.rootfs.layers = vec!["/nonexistent/layer".into()];
            let error = world.start(&spec).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with("open the image layer /nonexistent/layer"), "{error}");
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(fail)).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

pub(crate) fn bind(source: PathBuf, target: &str, read_only: bool) -> Mount {
    Mount {
        target: target.into(),
        source: MountSource::Bind { source, recursive: true, propagation: Propagation::Private },
        read_only,
    }
}

#[test]
fn mounts_are_where_and_as_asked() {
    let world = Box::new();
    let data = world.world.dir("data");
    std::fs::write(data.join("file"), "hello\n").unwrap();
    let mut spec = world.spec(&["sh", "-c", "exec 2>&1; cat /ro/file; echo x > /ro/file; echo y > /rw/new; mount | grep ' /t ' | cut -d' ' -f5; echo z > /ov/file; cat /ov/file"]);
    spec.mounts.push(bind(data.clone(), "/ro", true));
    spec.mounts.push(bind(data.clone(), "/rw", false));
    spec.mounts.push(Mount {
        target: "/t".into(),
        source: MountSource::Tmpfs {
            size: Some(4096),
            mode: 0o700,
            allowed: Allowed { exec: true, ..Allowed::default() },
            settings: Default::default(),
        },
        read_only: false,
    });
    let source = MountSource::Overlay {
        lower: vec![data.clone()],
        upper: world.world.dir("ou"),
        work: world.world.dir("ow"),
    };
    spec.mounts.push(Mount { target: "/ov".into(), source, read_only: false });
    let (code, log) = world.run(&spec);
    assert_eq!(
        (code, log.as_str()),
        (0, "hello\nsh: can't create /ro/file: Read-only file system\ntmpfs\nz\n")
    );
    assert_eq!(std::fs::read_to_string(data.join("new")).unwrap(), "y\n");
    assert_eq!(std::fs::read_to_string(data.join("file")).unwrap(), "hello\n");
}

#[test]
fn security_defaults_are_dockers() {
    let script = "exec 2>&1; grep -E '^(CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr '\\t' ' '; \
        ls -A /sys/firmware /proc/scsi 2>/dev/null | grep -v : ; cat /proc/kcore | wc -c; \
        echo 1 > /proc/sys/kernel/hostname; mount -t tmpfs x /tmp; unshare -n true; ls /proc/self/fd | wc -l; cat /dev/sda; mknod /tmp/b b 8 0 && cat /tmp/b; exit 0";
    let (_, log) = Box::new().sh(script);
    let caps = "00000000a80425fb";
    assert!(
        log.starts_with(
            &format!("CapBnd: {caps}\nCapAmb: 0000000000000000\n")
                .replace("CapBnd", "CapEff")
                .replace("CapAmb: 0000000000000000", &format!("CapBnd: {caps}\nCapAmb: 0000000000000000"))
        ),
        "{log}"
    );
    for expected in [
        "NoNewPrivs: 0\nSeccomp: 2\n",
        "\n0\n", // kcore reads as /dev/null
        "can't create /proc/sys/kernel/hostname: Read-only file system",
        "mount: permission denied",
        "unshare: unshare(0x40000000): Operation not permitted",
        "\n4\n", // ls's own descriptors and the three streams
        "can't open '/dev/sda': No such file or directory",
        "can't open '/tmp/b': Operation not permitted",
    ] {
        assert!(log.contains(expected), "{expected:?} is missing in {log}");
    }
}

#[test]
fn users_groups_and_directories_come_from_the_image() {
    let world = Box::new();
    let mut spec = world.spec(&[
        "sh",
        "-c",
        "id -u; id -g; id -G; echo $HOME; pwd; grep CapEff /proc/self/status | cut -f2",
    ]);
    spec.process.user = "ann".into();
    spec.process.cwd = "/made/for/it".into();
    assert_eq!(world.run(&spec).1, "1000\n100\n100 29\n/home/ann\n/made/for/it\n0000000000000000\n");
}

#[test]
fn exec_runs_in_the_container_with_its_own_streams() {
    let world = Box::new();
    let mut spec = world.spec(&[]);
    spec.init = true;
    let running = world.start(&spec).unwrap();
    let exec = |script: &str| {
        let (streams, mut out) = capture();
        let process = Process {
            args: ["sh", "-c", script].map(String::from).into(),
            env: vec!["PATH=/bin".into()],
            ..Process::default()
        };
        let client = Client::connect(&spec.run_dir).unwrap();
        let exit =
            client.exec(&process, false, ExecStreams::Direct(streams)).unwrap().wait().unwrap().unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        (exit.code, text)
    };
    assert_eq!(exec("hostname; echo kept > /tmp/x; exit 3"), (3, "box\n".into()));
    assert_eq!(exec("cat /tmp/x; cat /proc/1/comm"), (0, "kept\ninit\n".into()));
    let process = Process { args: vec!["nope".into()], ..Process::default() };
    let error = Client::connect(&spec.run_dir)
        .unwrap()
        .exec(&process, false, ExecStreams::Direct(capture().0))
        .unwrap_err();
    assert_eq!(error.to_string(), r#"exec: "nope": executable file not found in $PATH"#);
    running.signal(15).unwrap();
    assert_eq!(running.wait().unwrap().unwrap().code, 143);
}

#[test]
fn an_exec_is_killed_with_all_its_children() {
    let world = Box::new();
    let mut spec = world.spec(&[]);
    spec.init = true;
    let _running = world.start(&spec).unwrap();
    let (streams, mut out) = capture();
    let script = "sleep 1000 & (setsid sleep 1001 &) ; echo ready; sleep 1002";
    let process = Process {
        args: ["sh", "-c", script].map(String::from).into(),
        env: vec!["PATH=/bin".into()],
        ..Process::default()
    };
    let exec =
        Client::connect(&spec.run_dir).unwrap().exec(&process, false, ExecStreams::Direct(streams)).unwrap();
    let mut ready = [0; 6];
    out.read_exact(&mut ready).unwrap();
    exec.signal(9).unwrap();
    assert_eq!(exec.wait().unwrap().unwrap().code, 137);
    let mut rest = Vec::new();
    out.read_to_end(&mut rest).unwrap(); // ends only once every process that held the pipe is gone
}

#[test]
fn a_terminal_is_one() {
    let world = Box::new();
    let mut spec = world.spec(&["sh", "-c", "tty; test -t 0 && test -c /dev/console && echo yes"]);
    spec.process.terminal = true;
    let (code, log) = world.run(&spec);
    assert_eq!((code, log.as_str()), (0, "/dev/pts/0\r\nyes\r\n"));
}

#[test]
fn a_tethered_container_dies_with_its_launcher() {
    let world = Box::new();
    let spec = world.spec(&["sleep", "1000"]);
    drop(world.start(&spec).unwrap());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while engine_runtime::is_alive(&spec.run_dir).unwrap() {
        assert!(std::time::Instant::now() < deadline, "the supervisor still runs");
        std::thread::yield_now();
    }
    assert_eq!(State::load(&spec.state_dir).unwrap().unwrap().exit_code, Some(137));
}

#[test]
fn the_built_in_init_can_gain_no_more_than_the_container_may() {
    let world = Box::new();
    let mut spec = world.spec(&["sh", "-c", "grep CapBnd /proc/1/status | cut -f 2"]);
    spec.init = true;
    spec.security.capabilities = Capabilities::from_bits(1);
    assert_eq!(world.run(&spec), (0, "0000000000000001\n".to_owned()));
}
