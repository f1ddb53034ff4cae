use std::process::ExitCode;

use crate::context::Context;
use crate::format::{self, Inspected};

/// Display detailed information on one or more images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Inspect a specific platform of the multi-platform image
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut inspected = Inspected::default();
    for name in &args.images {
        let request = context.client.get(format!("{}/json", super::path(name)?));
        inspected.take(request.maybe("platform", args.platform.as_deref()).value().await)?;
    }
    format::inspect(inspected, args.format.as_deref())?;
    Ok(ExitCode::SUCCESS)
}
