use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use engine::build::{BuildEvent, BuildRequest};
use engine::image::PullOptions;
use engine::{BuildCommands, BuildSandbox, Engine, Session};
use engine_types::Reference;
use tokio::sync::OnceCell;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image's name.
    #[arg(short, long)]
    tag: Vec<Reference>,
    /// The Dockerfile [default: Dockerfile in the context].
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// The stage to build.
    #[arg(long)]
    target: Option<String>,
    /// A value for ARG (NAME=value).
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// A label for the image (NAME=value).
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// Ask registries for newer base images even when some are here.
    #[arg(long)]
    pull: bool,
    /// Run every step anew.
    #[arg(long)]
    no_cache: bool,
    /// Print the image's id only.
    #[arg(short, long)]
    quiet: bool,
    /// The directory whose files COPY and ADD see.
    context: PathBuf,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let session = engine.begin_session().await?;
    let built = build(engine, args, &session).await;
    engine.end_session(session).await?;
    built
}

async fn build(engine: &Engine, args: &Args, session: &Session) -> anyhow::Result<ExitCode> {
    let mut values = BTreeMap::new();
    for arg in &args.build_arg {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (arg.clone(), std::env::var(arg).unwrap_or_default()),
        };
        values.insert(name, value);
    }
    let label = |label: &String| {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        (name.to_owned(), value.to_owned())
    };
    let request = BuildRequest {
        context: args.context.clone(),
        dockerfile: args.file.clone(),
        target: args.target.clone(),
        args: values,
        labels: args.label.iter().map(label).collect(),
        pull: args.pull,
        no_cache: args.no_cache,
        cache_dir: engine.build_cache(),
        foreign: false,
    };
    let network = &OnceCell::new_with(Some(engine.default_network().await?));
    let pull = PullOptions::default();
    let sandbox = BuildSandbox {
        engine,
        session: session.id(),
        network,
        commands: BuildCommands::default(),
        pull,
        on_pull: &|_, _| {},
    };
    let quiet = args.quiet;
    let built = engine.build(&request, &sandbox, &|event| show(quiet, event)).await?;
    for tag in &args.tag {
        engine.images().tag(built.image.id, tag)?;
    }
    if built.cached < built.steps {
        engine.images().sync()?;
    }
    output::line(built.image.id)?;
    Ok(ExitCode::SUCCESS)
}

/// Progress goes to standard error; one that cannot be written is no reason to fail the build.
fn show(quiet: bool, event: BuildEvent) {
    let mut err = std::io::stderr().lock();
    let _ = match event {
        _ if quiet => Ok(()),
        BuildEvent::Started(step) => {
            writeln!(err, "[{} {}/{}] {}", step.stage, step.index, step.total, step.text)
        }
        BuildEvent::Cached(step) => writeln!(err, "[{} {}/{}] cached", step.stage, step.index, step.total),
        BuildEvent::Output { bytes, .. } => err.write_all(&bytes),
        BuildEvent::Instruction { .. }
        | BuildEvent::Reached { .. }
        | BuildEvent::Done { .. }
        | BuildEvent::Failed(_)
        | BuildEvent::Exporting => Ok(()),
    };
}
