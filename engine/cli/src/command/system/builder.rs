use std::process::ExitCode;

use serde_json::json;

use crate::command::{filters, reclaimed};
use crate::context::Context;
use crate::output;
use crate::units::parse_size;

/// Remove build cache
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all unused build cache, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=24h")
    #[arg(long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Amount of disk space to keep for cache
    #[arg(long, value_name = "bytes", value_parser = parse_size)]
    keep_storage: Option<i64>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let filters = filters(&args.filter);
    let what = if args.all { "all build cache" } else { "all dangling build cache" };
    let warning = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !args.force && !output::confirm(&warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    let request = context.client.post("/build/prune").flag("all", args.all);
    let request = request.maybe("keep-storage", args.keep_storage).filters(&filters);
    let pruned = request.value().await?;
    let none = json!([]);
    let removed = if pruned["CachesDeleted"].is_null() { &none } else { &pruned["CachesDeleted"] };
    crate::command::print_pruned("Deleted build cache objects", removed)?;
    output::line(reclaimed(&[&pruned]))?;
    Ok(ExitCode::SUCCESS)
}
