use std::process::ExitCode;

use crate::command::{filters, print_pruned, reclaimed};
use crate::context::Context;
use crate::output;

/// Remove unused local volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut filters = filters(&args.filter);
    if args.all {
        anyhow::ensure!(
            filters.get("all").is_none(),
            "conflicting options: cannot specify both --all and --filter all=1"
        );
        filters["all"] = serde_json::json!(["true"]);
    }
    let what = if args.all { "all local volumes" } else { "anonymous local volumes" };
    let warning = format!(
        "WARNING! This will remove {what} not used by at least one container.\nAre you sure you want to continue?"
    );
    if !args.force && !output::confirm(&warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    let pruned = context.client.post("/volumes/prune").filters(&filters).value().await?;
    print_pruned("Deleted Volumes", &pruned["VolumesDeleted"])?;
    output::line(reclaimed(&[&pruned]))?;
    Ok(ExitCode::SUCCESS)
}
