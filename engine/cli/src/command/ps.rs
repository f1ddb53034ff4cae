use std::process::ExitCode;

use engine::runtime::{HealthStatus, Status};
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
    let state = container.state.as_ref();
    let restarting = state.is_some_and(|state| state.status == Status::Restarting);
    match state.and_then(|state| state.exit_code) {
        Some(code) if container.running && restarting => format!("Restarting ({code})"),
        _ if container.running => match state.and_then(|state| state.health.as_ref()).map(|h| h.status) {
            None => "Up".to_owned(),
            Some(HealthStatus::Starting) => "Up (health: starting)".to_owned(),
            Some(HealthStatus::Healthy) => "Up (healthy)".to_owned(),
            Some(HealthStatus::Unhealthy) => "Up (unhealthy)".to_owned(),
        },
        Some(code) => format!("Exited ({code})"),
        None => "Created".to_owned(),
    }
}
