//! Processes that clients run in containers. Their records are the daemon's alone, as with Docker.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use engine::Process;
use engine::runtime::ExecStreams;
use engine::runtime::log::Stream;
use engine::runtime::spec::Process as ProcessSpec;
use engine_types::{ContainerId, ExecId};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::Daemon;
use crate::error::ApiError;
use crate::stream;

/// How many execs that have ended are remembered.
const ENDED_MAX: usize = 256;

/// What is to be run in a container.
#[derive(Debug, Clone)]
pub(crate) struct ExecSpec {
    pub(crate) command: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) terminal: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) privileged: bool,
    /// As they were given.
    pub(crate) detach_keys: Option<String>,
}

/// What became of an exec.
#[derive(Debug, Clone)]
pub(crate) struct ExecView {
    pub(crate) id: ExecId,
    pub(crate) container: ContainerId,
    pub(crate) spec: ExecSpec,
    pub(crate) pid: Option<i32>,
    pub(crate) exit_code: Option<i32>,
}

#[derive(Debug, Default)]
pub(super) struct Execs {
    all: HashMap<ExecId, Exec>,
    /// Those that have ended, oldest first.
    ended: VecDeque<ExecId>,
}

#[derive(Debug)]
struct Exec {
    container: ContainerId,
    spec: ExecSpec,
    state: ExecState,
}

#[derive(Debug)]
enum ExecState {
    Created,
    Starting,
    Running(Arc<Process>),
    Ended { pid: Option<i32>, code: i32 },
}

impl Execs {
    pub(super) fn running_in(&self, container: ContainerId) -> Vec<String> {
        let running = self.all.iter().filter(|(_, exec)| exec.container == container);
        let running = running.filter(|(_, exec)| matches!(exec.state, ExecState::Running(_)));
        running.map(|(id, _)| id.to_string()).collect()
    }

    pub(super) fn forget(&mut self, container: ContainerId) {
        self.all.retain(|_, exec| exec.container != container);
        let Self { all, ended } = self;
        ended.retain(|id| all.contains_key(id));
    }

    fn end(&mut self, id: ExecId, pid: Option<i32>, code: i32) {
        let Some(exec) = self.all.get_mut(&id) else { return };
        exec.state = ExecState::Ended { pid, code };
        self.ended.push_back(id);
        while self.ended.len() > ENDED_MAX {
            self.ended.pop_front().and_then(|oldest| self.all.remove(&oldest));
        }
    }
}

/// An exec that has been started, with its client's end of its streams.
#[derive(Debug)]
pub(crate) struct StartedExec {
    pub(crate) stream: UnixStream,
    /// Changes when its exit code is recorded.
    pub(crate) ended: watch::Receiver<bool>,
}

impl Daemon {
    pub(crate) async fn create_exec(&self, key: &str, spec: ExecSpec) -> Result<ExecId, ApiError> {
        if spec.command.is_empty() {
            return Err(ApiError::Invalid("no exec command specified".to_owned()));
        }
        let container = self.engine().container(key).await?;
        takes_execs(&container)?;
        let id = ExecId::from_random(super::random()?);
        let command = format!("exec_create: {}", spec.command.join(" "));
        let exec = Exec { container: container.id, spec, state: ExecState::Created };
        self.execs().all.insert(id, exec);
        self.engine().record_container(container.id, &command, &[("execID", id.to_string())]).await?;
        Ok(id)
    }

    pub(crate) fn exec(&self, id: &str) -> Result<ExecView, ApiError> {
        let unknown = || ApiError::NotFound(format!("No such exec instance: {id}"));
        let id: ExecId = id.parse().map_err(|_| unknown())?;
        let execs = self.execs();
        let exec = execs.all.get(&id).ok_or_else(unknown)?;
        let (pid, exit_code) = match &exec.state {
            ExecState::Created | ExecState::Starting => (None, None),
            ExecState::Running(process) => (Some(process.pid()), None),
            ExecState::Ended { pid, code } => (*pid, Some(*code)),
        };
        Ok(ExecView { id, container: exec.container, spec: exec.spec.clone(), pid, exit_code })
    }

    /// Starts an exec, once; without a terminal of its own its output comes in frames if they are wanted. A command that cannot be run is told to the client's stream, and by its exit code.
    pub(crate) async fn start_exec(
        &self,
        id: &str,
        detach: bool,
        framed: bool,
    ) -> Result<StartedExec, ApiError> {
        let view = self.exec(id)?;
        let container = self.engine().container(&view.container.to_string()).await?;
        takes_execs(&container)?;
        self.begin(&view)?;
        let mut process = self.engine().process_defaults(&container)?;
        let spec = &view.spec;
        process.args.clone_from(&spec.command);
        let term = spec.terminal.then(|| "TERM=xterm".to_owned());
        for entry in term.iter().chain(&spec.env) {
            let name = entry.split('=').next().unwrap_or_default();
            process.env.retain(|known| known.split('=').next() != Some(name));
            process.env.push(entry.clone());
        }
        process.cwd = spec.working_dir.clone().unwrap_or(process.cwd);
        process.user = spec.user.clone().unwrap_or(process.user);
        process.terminal = spec.terminal;
        process.stdin = spec.stdin && !detach;
        let privileged = spec.privileged || container.config.security.all_devices;
        let (stream, theirs) = UnixStream::pair()?;
        let (streams, relay) = wire(&process, spec, theirs, framed)?;
        let (recorded, ended) = watch::channel(false);
        match self.engine().exec(container.id, process, privileged, streams).await {
            Ok(process) => self.follow(view.id, Arc::new(process), recorded),
            Err(error) if detach => {
                self.execs().end(view.id, None, exec_code(&error));
                return Err(error.into());
            }
            Err(error) => {
                self.execs().end(view.id, None, exec_code(&error));
                let text = format!("OCI runtime exec failed: {}\r\n", ApiError::from(error).message());
                return failed(stream, relay, &text, ended).await;
            }
        }
        if let Some(relay) = relay {
            tokio::spawn(relay.run());
        }
        self.engine().record_container(view.container, "exec_start", &[("execID", id.to_owned())]).await?;
        Ok(StartedExec { stream, ended })
    }

    /// Notes that a client has left an exec alone.
    pub(crate) async fn exec_detached(&self, id: &str) -> Result<(), ApiError> {
        let container = self.exec(id)?.container;
        Ok(self.engine().record_container(container, "exec_detach", &[("execID", id.to_owned())]).await?)
    }

    pub(crate) fn resize_exec(&self, id: &str, rows: u16, columns: u16) -> Result<(), ApiError> {
        let view = self.exec(id)?;
        match self.execs().all.get(&view.id).map(|exec| &exec.state) {
            Some(ExecState::Running(process)) => Ok(process.resize(rows, columns)?),
            _ => Err(ApiError::Conflict(format!("exec process {id} is not running"))),
        }
    }

    fn begin(&self, view: &ExecView) -> Result<(), ApiError> {
        let mut execs = self.execs();
        match execs.all.get_mut(&view.id).map(|exec| &mut exec.state) {
            Some(state @ ExecState::Created) => {
                *state = ExecState::Starting;
                Ok(())
            }
            _ => Err(ApiError::Conflict(format!("Error: Exec command {} has already run", view.id))),
        }
    }

    fn follow(&self, id: ExecId, process: Arc<Process>, recorded: watch::Sender<bool>) {
        if let Some(exec) = self.execs().all.get_mut(&id) {
            exec.state = ExecState::Running(Arc::clone(&process));
        }
        let daemon = self.clone();
        tokio::spawn(async move {
            let code = process.wait().await.map_or(255, |exit| exit.code);
            daemon.execs().end(id, Some(process.pid()), code);
            recorded.send_replace(true);
        });
    }
}

/// Copies between an exec's pipes and its client's stream.
struct Relay {
    stdin: Option<pipe::Sender>,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    framed: bool,
    client: UnixStream,
}

impl Relay {
    async fn run(self) {
        let (client_in, client_out) = self.client.into_split();
        let input = stream::feed(client_in, self.stdin);
        let output = stream::merge(self.stdout, self.stderr, self.framed, client_out);
        tokio::select! {
            () = output => {}
            () = input => {}
        }
    }
}

/// The exec's ends of its streams. A terminal has one both ways; otherwise pipes, which are framed here.
fn wire(
    process: &ProcessSpec,
    spec: &ExecSpec,
    client: UnixStream,
    framed: bool,
) -> Result<(ExecStreams, Option<Relay>), ApiError> {
    if process.terminal {
        return Ok((ExecStreams::Terminal(client.into_std()?.into()), None));
    }
    let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").map(OwnedFd::from);
    let (stdin, input) = if process.stdin {
        let (sender, receiver) = pipe::pipe()?;
        (Some(sender), receiver.into_blocking_fd()?)
    } else {
        (None, null()?)
    };
    let output = |wanted: bool| {
        if !wanted {
            return Ok((None, null()?));
        }
        let (sender, receiver) = pipe::pipe()?;
        Ok::<_, std::io::Error>((Some(receiver), sender.into_blocking_fd()?))
    };
    let ((stdout, out), (stderr, error)) = (output(spec.stdout)?, output(spec.stderr)?);
    Ok((ExecStreams::Direct([input, out, error]), Some(Relay { stdin, stdout, stderr, framed, client })))
}

/// Docker's exit codes for commands that could not be run.
fn exec_code(error: &engine::Error) -> i32 {
    match error {
        engine::Error::Client(engine::runtime::ClientError::Setup(e)) => match e.exit_code() {
            125 => 126,
            code => code,
        },
        _ => 126,
    }
}

/// Tells the client why there is nothing to hear.
async fn failed(
    stream: UnixStream,
    relay: Option<Relay>,
    text: &str,
    ended: watch::Receiver<bool>,
) -> Result<StartedExec, ApiError> {
    // With a terminal the other end went with the process that was not started: another pair takes its place.
    let (stream, header, mut told) = match relay {
        Some(relay) => {
            let header = relay.framed.then(|| stream::header(Stream::Stdout, text.len()));
            (stream, header, relay.client)
        }
        None => {
            let (stream, told) = UnixStream::pair()?;
            (stream, None, told)
        }
    };
    told.write_all(header.as_ref().map_or(&[][..], |header| header)).await?;
    told.write_all(text.as_bytes()).await?;
    Ok(StartedExec { stream, ended })
}

fn takes_execs(container: &engine::Container) -> Result<(), ApiError> {
    let id = container.id;
    if container.is_paused() {
        let text = format!("container {id} is paused, unpause the container before exec");
        return Err(ApiError::Conflict(text));
    }
    if !container.running {
        return Err(ApiError::Conflict(format!("container {id} is not running")));
    }
    Ok(())
}
