use std::process::ExitCode;

use engine::Engine;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    for container in &args.containers {
        output::line(engine.wait_container(container).await?.unwrap_or_default())?;
    }
    Ok(ExitCode::SUCCESS)
}
