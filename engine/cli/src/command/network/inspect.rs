use std::process::ExitCode;

use crate::context::Context;
use crate::format::{self, Inspected};

/// Display detailed information on one or more networks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Verbose output for diagnostics
    #[arg(short, long)]
    verbose: bool,
    /// The networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut inspected = Inspected::default();
    for name in &args.networks {
        inspected.take(context.client.get(super::path(name)?).flag("verbose", args.verbose).value().await)?;
    }
    format::inspect(inspected, args.format.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
