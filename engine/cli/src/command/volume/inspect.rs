use std::process::ExitCode;

use crate::context::Context;
use crate::format::{self, Inspected};

/// Display detailed information on one or more volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// The volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut inspected = Inspected::default();
    for name in &args.volumes {
        inspected.take(context.client.get(super::path(name)?).value().await)?;
    }
    format::inspect(inspected, args.format.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
