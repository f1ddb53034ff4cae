//! The command line: what is asked for, and in what words the answer is given.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use engine::types::Paths;
use engine::{Engine, Session};
use pipelines::{Context, Event, Pipeline, Plan};
use worker::artifacts::own_directory;
use worker::cache::CacheStore;
use worker::event::Reporter;
use worker::output::{PlainReporter, TerminalReporter};
use worker::runner::{Settings, Stop, run, stop_pair};
use worker::secrets::Secrets;
use worker::source::Source;
use worker::workspace::{Snapshot, SnapshotStore};

/// What a pipeline file is called.
const DEFAULT_FILE: &str = "pipeline.yaml";
/// How long the checkout is copied before whoever waits is told.
const LONG_COPY: Duration = Duration::from_secs(2);
/// The run went well.
const SUCCESS: u8 = 0;
/// A job failed, or the run was stopped or could not be set up.
const FAILURE: u8 = 1;
/// The pipeline file or the command line is wrong.
const BAD_INPUT: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "worker", version, about = "Runs pipelines")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a pipeline file on this machine.
    Run(RunArgs),
    /// Check a pipeline file and say what is wrong with it.
    Check {
        /// The pipeline file.
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The pipeline file [default: the nearest pipeline.yaml, from here up to the checkout's root].
    file: Option<PathBuf>,
    /// How many jobs run at the same time [default: the number of processors].
    #[arg(short, long)]
    parallel: Option<usize>,
    /// A file of NAME=value lines with secrets; those in the environment count as well.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Where artifacts go, a directory for each job [default: .lighter/artifacts of the checkout].
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// A registry that is tried before Docker Hub (host[:port]).
    #[arg(long, value_name = "ADDRESS")]
    registry_mirror: Vec<String>,
    /// A registry that speaks plain HTTP (host[:port]); those on this machine may always.
    #[arg(long, value_name = "ADDRESS")]
    insecure_registry: Vec<String>,
    /// Where images, caches and containers are kept.
    #[arg(long, env = "LIGHTER_ROOT", default_value = "/var/lib/lighter")]
    root: PathBuf,
    /// Where sockets and locks are kept.
    #[arg(long, env = "LIGHTER_RUN", default_value = "/run/lighter")]
    run: PathBuf,
    /// Lines instead of a live view, as if piped.
    #[arg(long)]
    plain: bool,
}

pub(crate) fn main() -> ExitCode {
    engine::log::to_stderr("worker", false);
    let code = match Cli::parse().command {
        Command::Check { file } => match read(&file) {
            Ok(_) => SUCCESS,
            Err(text) => {
                say(&text);
                BAD_INPUT
            }
        },
        Command::Run(args) => run_command(&args),
    };
    ExitCode::from(code)
}

fn run_command(args: &RunArgs) -> u8 {
    let file = args.file.clone().unwrap_or_else(nearest_file);
    let (source, plan) = match plan(&file) {
        Ok(planned) => planned,
        Err(text) => {
            say(&text);
            return BAD_INPUT;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.context("start the async runtime").and_then(|runtime| {
        let result = runtime.block_on(execute(args, &source, &plan));
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(true) => SUCCESS,
        Ok(false) => FAILURE,
        Err(error) => {
            say(&format!("worker: {}\n", worker::causes(error.as_ref())));
            FAILURE
        }
    }
}

/// Reads and checks the file, and makes the jobs of a run started by hand.
fn plan(file: &Path) -> Result<(Source, Plan), String> {
    let pipeline = read(file)?;
    let source = Source::of(file).map_err(|e| format!("worker: {}\n", worker::causes(&e)))?;
    let context: Context = source.context(Event::Manual, &uuid::Uuid::now_v7().to_string());
    let plan =
        pipeline.expand(&context).map_err(|e| format!("{}: {}\n", file.display(), worker::causes(&e)))?;
    Ok((source, plan))
}

/// The pipeline file of the directory this runs in, or else of the nearest above it in the same checkout; relative, as
/// whoever asks would name it.
fn nearest_file() -> PathBuf {
    let mut file = PathBuf::from(DEFAULT_FILE);
    let here = std::env::current_dir().unwrap_or_default();
    for dir in here.ancestors() {
        if dir.join(DEFAULT_FILE).exists() {
            return file;
        }
        if dir.join(".git").exists() {
            break;
        }
        file = Path::new("..").join(file);
    }
    PathBuf::from(DEFAULT_FILE)
}

fn read(file: &Path) -> Result<Pipeline, String> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        format!(
            "worker: {}: {e}\n  name the pipeline file: worker run path/to/pipeline.yaml\n",
            file.display()
        )
    })?;
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    Pipeline::parse(&file.display().to_string(), &text).map_err(|d| pipelines::render(&d, color))
}

async fn execute(args: &RunArgs, source: &Source, plan: &Plan) -> anyhow::Result<bool> {
    let secrets = Secrets::load(args.secrets.as_deref())?;
    // Before anything is made that would be left.
    let (handle, stop) = stop_pair();
    let signals = stop_on_signals(handle)?;
    let engine = Engine::open(Paths::host(&args.root, &args.run)).await?;
    engine.stay_open();
    let session = Arc::new(engine.begin_session().await?);
    let result = perform(args, source, plan, secrets, &engine, &session, stop).await;
    signals.abort();
    let session = Arc::into_inner(session).context("a job still holds the session")?;
    let ended = engine.end_session(session).await;
    // Why the run failed says more than what could not be taken down after it.
    let succeeded = result?;
    ended?;
    Ok(succeeded)
}

/// Runs the jobs; whatever they made that is still there goes with the session.
async fn perform(
    args: &RunArgs,
    source: &Source,
    plan: &Plan,
    secrets: Secrets,
    engine: &Engine,
    session: &Arc<Session>,
    stop: Stop,
) -> anyhow::Result<bool> {
    let reporter: Arc<dyn Reporter> = if std::io::stdout().is_terminal() && !args.plain {
        Arc::new(TerminalReporter::new())
    } else {
        Arc::new(PlainReporter::new(std::io::stdout()))
    };
    let snapshot = take_snapshot(engine, source, &stop)?;
    let artifacts = match &args.artifacts {
        Some(dir) => dir.clone(),
        None => own_directory(source.root())?,
    };
    let mut registries =
        engine::image::Registries { insecure: args.insecure_registry.clone(), ..Default::default() };
    registries.mirrors.insert("docker.io".to_owned(), args.registry_mirror.clone());
    let settings = Settings {
        engine: engine.clone(),
        session: Arc::clone(session),
        snapshot: Arc::new(snapshot),
        secrets: Arc::new(secrets),
        caches: Arc::new(CacheStore::open(args.root.join("caches"), source.repo())?),
        artifacts,
        registries,
        parallel: args
            .parallel
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
        reporter,
        stop,
    };
    let report = run(plan, &settings).await;
    Ok(report.succeeded())
}

/// Copies the checkout, as far as it differs from what the last run of it had.
fn take_snapshot(engine: &Engine, source: &Source, stop: &Stop) -> anyhow::Result<Snapshot> {
    let root = source.root().display().to_string();
    let notice = tokio::spawn(async move {
        tokio::time::sleep(LONG_COPY).await;
        say(&format!("worker: copying {root}; the next run copies only what has changed\n"));
    });
    let take = || SnapshotStore::open(engine.paths())?.take(source.root(), &|| stop.is_requested());
    let taken = tokio::task::block_in_place(take);
    notice.abort();
    Ok(taken?)
}

/// Stops the run at the first Ctrl-C or TERM, at once at the second.
fn stop_on_signals(handle: worker::runner::StopHandle) -> std::io::Result<tokio::task::JoinHandle<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            handle.stop();
        }
    }))
}

fn say(text: &str) {
    // Nobody is left to tell if standard error is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
