//! A daemon of a test's own.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptionsBuilder,
};
use futures::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use tests::{World, expect_success};

/// How long a client waits for an answer that should come at once.
const ANSWER: u64 = 60;

/// A daemon in a world of its own, which ends with it.
pub(crate) struct Daemon {
    pub(crate) world: World,
    child: Child,
    socket: PathBuf,
    options: Vec<String>,
}

/// An answer in plain HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    /// The objects of a body that is a line of JSON each.
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let lines = self.body.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// The one object of a body.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl Daemon {
    /// Starts one that has busybox.
    pub(crate) fn start() -> Self {
        let world = World::new();
        world.import("busybox:latest");
        Self::start_in(world)
    }

    pub(crate) fn start_in(world: World) -> Self {
        Self::start_with(world, &[])
    }

    /// Starts one with further options.
    pub(crate) fn start_with(world: World, options: &[&str]) -> Self {
        let socket = world.path().join("docker.sock");
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let child = spawn(&world, &socket, &options);
        world.set_daemon(format!("unix://{}", socket.display()));
        Self { world, child, socket, options }
    }

    /// What `DOCKER_HOST` is for its clients.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    pub(crate) fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// A client.
    pub(crate) fn docker(&self) -> Docker {
        let version = bollard::API_DEFAULT_VERSION;
        Docker::connect_with_unix(self.socket.to_str().unwrap(), ANSWER, version).unwrap()
    }

    /// A connection that has sent a request.
    pub(crate) fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(ANSWER))).unwrap();
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Length: {length}\r\n{headers}\r\n");
        // At once: whoever needs no body may answer, and hang up, before it has come.
        stream.write_all((head + body).as_bytes()).unwrap();
        stream
    }

    /// A connection that has sent a request with any bytes.
    pub(crate) fn send_bytes(&self, method: &str, path: &str, body: &[u8]) -> UnixStream {
        self.send_part(method, path, body, body.len())
    }

    /// A connection that has sent the beginning of a request's body of this length.
    pub(crate) fn send_part(&self, method: &str, path: &str, body: &[u8], length: usize) -> UnixStream {
        let headers = "Content-Type: application/x-tar\r\nConnection: close";
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(ANSWER))).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: docker\r\nContent-Length: {length}\r\n{headers}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // One that is refused at once is not read to its end.
        let _ = stream.write_all(body);
        stream
    }

    /// Sends bytes and reads the answer.
    pub(crate) fn upload(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        read_answer(self.send_bytes(method, path, body))
    }

    /// Asks in plain HTTP.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = "Content-Type: application/json\r\nConnection: close\r\n";
        read_answer(self.send(method, path, headers, body))
    }

    /// Kills it without a word, and starts another one in its place.
    pub(crate) fn crash(&mut self, meanwhile: impl FnOnce()) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        meanwhile();
        self.child = spawn(&self.world, &self.socket, &self.options);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a service manager does.
    pub(crate) fn terminate(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        assert!(!self.socket.exists(), "the socket is left behind");
    }

    /// Ends it and fails if it, or a container, left anything.
    pub(crate) fn finish(mut self) {
        self.terminate();
        self.world.assert_nothing_is_left();
    }
}

impl Drop for Daemon {
    /// What a failed test leaves.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let containers = std::fs::read_dir(self.world.root().join("containers")).unwrap();
        let ids: Vec<_> = containers.map(|entry| entry.unwrap().file_name()).collect();
        if !ids.is_empty() {
            self.world.with_engine(async |engine| {
                for id in &ids {
                    let _ = engine.remove_container(&id.to_string_lossy(), true).await;
                }
            });
        }
    }
}

/// Returns once it listens.
fn spawn(world: &World, socket: &std::path::Path, options: &Vec<String>) -> Child {
    let address = format!("unix://{}", socket.display());
    listening(world.program("engine").args(["daemon", "-H", &address]).args(options)).0
}

/// Starts a daemon; returns once it listens, with where it does.
pub(crate) fn listening(command: &mut Command) -> (Child, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let address = loop {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the daemon ended before it listened");
        if let Some((_, address)) = line.trim_end().split_once("listening at ") {
            break address.to_owned();
        }
    };
    // It may go on to say something.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::stderr()));
    (child, address)
}

pub(crate) fn read_answer(stream: UnixStream) -> Answer {
    let mut stream = BufReader::new(stream);
    let (status, headers) = read_head(&mut stream);
    let mut body = Vec::new();
    stream.read_to_end(&mut body).unwrap();
    Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// Reads up to a body.
pub(crate) fn read_head(stream: &mut BufReader<UnixStream>) -> (u16, HashMap<String, String>) {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    let mut headers = HashMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { return (status, headers) };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
}

/// An archive of files: name and content.
pub(crate) fn context(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A container that runs a script in busybox, without a network, changed by `edit`.
pub(crate) fn script(text: &str, edit: impl FnOnce(&mut ContainerCreateBody)) -> ContainerCreateBody {
    let mut body = ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: Some(["sh", "-c", text].map(str::to_owned).to_vec()),
        host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    edit(&mut body);
    body
}

/// The host's part of a container.
pub(crate) fn host(body: &mut ContainerCreateBody) -> &mut HostConfig {
    body.host_config.as_mut().unwrap()
}

pub(crate) async fn create(docker: &Docker, name: &str, body: ContainerCreateBody) -> String {
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    docker.create_container(Some(options), body).await.unwrap().id
}

/// Makes and starts a container.
pub(crate) async fn run(docker: &Docker, name: &str, body: ContainerCreateBody) -> String {
    let id = create(docker, name, body).await;
    start(docker, name).await.unwrap();
    id
}

/// The exit code, once the container has ended.
pub(crate) async fn wait(docker: &Docker, name: &str) -> i64 {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    match docker.wait_container(name, Some(options)).next().await.unwrap() {
        Ok(answer) => answer.status_code,
        // This is how bollard says that it was not zero.
        Err(bollard::errors::Error::DockerContainerWaitError { code, .. }) => code,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn start(docker: &Docker, name: &str) -> Result<(), bollard::errors::Error> {
    docker.start_container(name, None::<StartContainerOptions>).await
}

pub(crate) async fn inspect(
    docker: &Docker,
    name: &str,
) -> Result<ContainerInspectResponse, bollard::errors::Error> {
    docker.inspect_container(name, None::<InspectContainerOptions>).await
}

pub(crate) async fn remove(docker: &Docker, name: &str) {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    docker.remove_container(name, Some(options)).await.unwrap();
}

/// The supervisors of a world's running containers: each holds the lock in its container's run directory.
pub(crate) fn supervisors(world: &World) -> Vec<Pid> {
    let run = world.run_dir().join("containers");
    let holds = |process: &std::path::Path| {
        let links = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        targets.any(|target| target.starts_with(&run) && target.ends_with("lock"))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let ids = processes
        .filter(|process| holds(process))
        .filter_map(|process| process.file_name()?.to_str()?.parse().ok().and_then(Pid::from_raw));
    ids.collect()
}

/// Runs the `engine` command in a daemon's world.
pub(crate) fn engine(world: &World, arguments: &[&str]) -> String {
    let output = expect_success(world.command("engine").args(arguments));
    String::from_utf8(output.stdout).unwrap()
}
