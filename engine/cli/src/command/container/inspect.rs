use std::process::ExitCode;

use crate::context::Context;
use crate::format::{self, Inspected};

/// Display detailed information on one or more containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut inspected = Inspected::default();
    for name in &args.containers {
        let request = context.client.get(format!("{}/json", super::path(name)?));
        inspected.take(request.flag("size", args.size).value().await)?;
    }
    format::inspect(inspected, args.format.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
