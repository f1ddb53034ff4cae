use std::process::ExitCode;

use crate::command::{filters, print_pruned};
use crate::context::Context;
use crate::output;

/// Remove all unused networks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let filters = filters(&args.filter);
    let warning = "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?";
    if !args.force && !output::confirm(warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    let pruned = context.client.post("/networks/prune").filters(&filters).value().await?;
    print_pruned("Deleted Networks", &pruned["NetworksDeleted"])?;
    Ok(ExitCode::SUCCESS)
}
