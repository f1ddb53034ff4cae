use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use engine::runtime::spec::Process as ProcessSpec;
use engine::runtime::{ClientError, ExecStreams, SetupError};
use engine::types::ContainerId;
use pipelines::{Image, Step, WORKSPACE};
use rustix::process::Signal;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::attempt::{Attempt, Failure};
use super::containers::Containers;
use crate::event::Event;

/// How long a step may take to end after TERM.
const GRACE: Duration = Duration::from_secs(10);
/// Bytes of output taken at once.
const READ_SIZE: usize = 64 * 1024;
/// The longest name taken from a script's first line, in characters.
const NAME_MAX: usize = 60;

/// How a step's script ended.
#[derive(Debug)]
pub(super) enum StepEnd {
    /// By itself, or by the kernel's OOM killer.
    Exited { code: i32, oom_killed: bool },
    /// It was stopped at its limit.
    TimedOut,
    /// It was stopped with the run.
    Stopped,
    /// It was stopped because a service ended.
    ServiceEnded(String),
    /// The image has no shell to run it; the code is Docker's for that.
    NoShell { code: i32, reason: String },
}

/// What runs the steps' scripts.
const SHELL: &str = "/bin/sh";

/// A step's name: its own, or its script's first line.
pub(super) fn step_name(step: &Step) -> Arc<str> {
    let name = step
        .name
        .as_deref()
        .unwrap_or_else(|| step.run.lines().find(|l| !l.trim().is_empty()).unwrap_or("run"));
    name.trim().chars().take(NAME_MAX).collect::<String>().into()
}

/// Runs a step; ends it early when the run is to stop or a service is gone.
pub(super) async fn run_step(
    attempt: &Attempt<'_>,
    containers: &Containers<'_>,
    container: ContainerId,
    step: &Step,
    limit: Instant,
) -> Result<StepEnd, Failure> {
    let early = async {
        tokio::select! {
            () = attempt.settings.stop.requested() => StepEnd::Stopped,
            text = containers.service_ended() => StepEnd::ServiceEnded(text),
            () = tokio::time::sleep_until(limit) => StepEnd::TimedOut,
        }
    };
    run_script(attempt, containers, container, step, early).await
}

/// Runs a post step, which only a stop at once ends early.
pub(super) async fn run_post_step(
    attempt: &Attempt<'_>,
    containers: &Containers<'_>,
    container: ContainerId,
    step: &Step,
    limit: Instant,
) -> Result<StepEnd, Failure> {
    let early = async {
        tokio::select! {
            () = attempt.settings.stop.urgent() => StepEnd::Stopped,
            () = tokio::time::sleep_until(limit) => StepEnd::TimedOut,
        }
    };
    run_script(attempt, containers, container, step, early).await
}

async fn run_script(
    attempt: &Attempt<'_>,
    containers: &Containers<'_>,
    container: ContainerId,
    step: &Step,
    early: impl Future<Output = StepEnd>,
) -> Result<StepEnd, Failure> {
    let name = step_name(step);
    let reporter = &attempt.settings.reporter;
    let job = &attempt.job.id;
    reporter.report(Event::StepStarted { job: job.clone(), step: Arc::clone(&name) });
    let started = std::time::Instant::now();
    let output = |bytes: Vec<u8>| {
        if !bytes.is_empty() {
            let source = Arc::clone(&name);
            reporter.report(Event::Output { job: job.clone(), source, stderr: false, bytes });
        }
    };
    let process = script(attempt, containers, step);
    let end = run_process(attempt, container, process, early, &output).await;
    let end = end.or_else(|error| no_shell(attempt, error));
    let exit_code = end.as_ref().ok().and_then(StepEnd::exit_code);
    let duration = started.elapsed();
    reporter.report(Event::StepEnded { job: job.clone(), step: Arc::clone(&name), exit_code, duration });
    end.map_err(|e| Failure::SetUp(format!("step {name:?}: {}", crate::causes(&e))))
}

impl StepEnd {
    /// The exit code, if it was not stopped.
    pub(super) fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exited { code, .. } | Self::NoShell { code, .. } => Some(*code),
            Self::TimedOut | Self::Stopped | Self::ServiceEnded(_) => None,
        }
    }
}

/// Why a step's process could not be run or watched.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Takes the lack of a shell for an end of the step.
fn no_shell(attempt: &Attempt<'_>, error: StepError) -> Result<StepEnd, StepError> {
    let StepError::Engine(engine::Error::Client(ClientError::Setup(setup))) = &error else {
        return Err(error);
    };
    let image = match &attempt.job.image {
        Image::Reference(name) => format!("the image {name}"),
        Image::Build { build } => format!("the image built from {}", build.context),
    };
    let remedy = "steps need a POSIX shell, so use an image that has one";
    let reason = match setup {
        SetupError::CommandNotFound { .. } => format!("{image} has no {SHELL}: {remedy}"),
        SetupError::CommandNotExecutable { errno, .. } => {
            let cause = io::Error::from_raw_os_error(*errno);
            format!("{SHELL} of {image} cannot be executed ({cause}): {remedy}, for this processor")
        }
        _ => return Err(error),
    };
    Ok(StepEnd::NoShell { code: setup.exit_code(), reason })
}

/// The process of a step's script. Secrets reach it through its environment alone and are nowhere on disk.
fn script(attempt: &Attempt<'_>, containers: &Containers<'_>, step: &Step) -> ProcessSpec {
    let defaults = containers.process_defaults();
    let mut env = defaults.env.clone();
    env.extend(attempt.secrets.iter().map(|(name, value)| format!("{name}={value}")));
    let own = &step.env;
    env.extend(own.iter().map(|(name, value)| format!("{name}={value}")));
    let cwd = match step.workdir.as_deref().or(attempt.job.workdir.as_deref()) {
        Some(dir) => format!("{WORKSPACE}/{dir}"),
        None => WORKSPACE.to_owned(),
    };
    let args = [SHELL, "-e", "-c", &step.run].map(str::to_owned).into();
    ProcessSpec { args, env, cwd, ..defaults.clone() }
}

async fn run_process(
    attempt: &Attempt<'_>,
    container: ContainerId,
    process: ProcessSpec,
    early: impl Future<Output = StepEnd>,
    output: &impl Fn(Vec<u8>),
) -> Result<StepEnd, StepError> {
    let (streams, mut reader) = one_pipe()?;
    let process =
        attempt.settings.engine.exec(container, process, false, ExecStreams::Direct(streams)).await?;
    let mut masked = attempt.masker.stream();
    let mut take = |bytes: &[u8]| output(masked.push(bytes));
    tokio::pin!(early);
    let mut stopped: Option<StepEnd> = None;
    let mut kill_at: Option<Instant> = None;
    let mut open = true;
    let exit = loop {
        tokio::select! {
            more = copy_some(&mut reader, &mut take), if open => open = more?,
            exit = process.wait() => break exit?,
            end = &mut early, if stopped.is_none() => {
                stopped = Some(end);
                process.signal(Signal::TERM.as_raw())?;
                kill_at = Some(Instant::now() + GRACE);
            }
            () = kill_time(kill_at), if kill_at.is_some() => {
                kill_at = None;
                process.signal(Signal::KILL.as_raw())?;
            }
            () = attempt.settings.stop.urgent(), if kill_at.is_some() => {
                kill_at = None;
                process.signal(Signal::KILL.as_raw())?;
            }
        }
    };
    // What the process had written is in the pipe. What it left running may hold the pipe open for ever.
    while open && drain(&mut reader, &mut take)? {}
    output(masked.finish());
    Ok(stopped.unwrap_or(StepEnd::Exited { code: exit.code, oom_killed: exit.oom_killed }))
}

async fn kill_time(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One pipe for both streams keeps their order.
fn one_pipe() -> io::Result<([OwnedFd; 3], pipe::Receiver)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let stdin = std::fs::File::open("/dev/null")?.into();
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok(([stdin, write.try_clone()?, write], pipe::Receiver::from_owned_fd(read)?))
}

/// Waits for output and passes it on; false at its end.
async fn copy_some(reader: &mut pipe::Receiver, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    reader.readable().await?;
    let mut buffer = vec![0; READ_SIZE];
    match reader.try_read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(length) => {
            take(&buffer[..length]);
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(e) => Err(e),
    }
}

/// Passes on what is there now; false once there is nothing more.
fn drain(reader: &mut pipe::Receiver, take: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let mut buffer = vec![0; READ_SIZE];
    match reader.try_read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(length) => {
            take(&buffer[..length]);
            Ok(true)
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}
