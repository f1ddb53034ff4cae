use std::process::ExitCode;

use engine::runtime::Status;
use engine::{Container, Engine};

use crate::{output, ports};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Those that have ended, too.
    #[arg(short, long)]
    all: bool,
    /// Ids only.
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let containers = engine.containers().await?;
    let shown = containers.iter().filter(|c| args.all || c.running);
    if args.quiet {
        shown.map(|c| c.id.short()).try_for_each(output::line)?;
        return Ok(ExitCode::SUCCESS);
    }
    let header = ["CONTAINER ID", "IMAGE", "STATUS", "PORTS", "NAMES"].map(String::from).to_vec();
    let rows = shown
        .map(|c| vec![c.id.short(), c.config.image.0.short(), status(c), ports::column(c), c.name.clone()]);
    output::table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

fn status(container: &Container) -> String {
    let restarting = container.state.as_ref().is_some_and(|state| state.status == Status::Restarting);
    match container.state.as_ref().and_then(|state| state.exit_code) {
        Some(code) if container.running && restarting => format!("Restarting ({code})"),
        _ if container.running => "Up".to_owned(),
        Some(code) => format!("Exited ({code})"),
        None => "Created".to_owned(),
    }
}
