use std::process::ExitCode;

use engine::Engine;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kill those that run.
    #[arg(short, long)]
    force: bool,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    for container in &args.containers {
        engine.remove_container(container, args.force).await?;
        output::line(container)?;
    }
    Ok(ExitCode::SUCCESS)
}
