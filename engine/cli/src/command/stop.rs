use std::process::ExitCode;
use std::time::Duration;

use engine::Engine;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Seconds until it is killed.
    #[arg(short, long, default_value_t = 10)]
    time: u64,
    /// The containers.
    #[arg(required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    for container in &args.containers {
        engine.stop_container(container, Duration::from_secs(args.time)).await?;
        output::line(container)?;
    }
    Ok(ExitCode::SUCCESS)
}
