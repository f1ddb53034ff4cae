use std::process::ExitCode;

use serde_json::Value;

use crate::command::{filters, reclaimed};
use crate::context::Context;
use crate::output;

/// Remove unused images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut filters = filters(&args.filter);
    filters["dangling"] = serde_json::json!([(!args.all).to_string()]);
    let what = match args.all {
        true => "WARNING! This will remove all images without at least one container associated to them.",
        false => "WARNING! This will remove all dangling images.",
    };
    if !args.force && !output::confirm(&format!("{what}\nAre you sure you want to continue?"))? {
        return Ok(ExitCode::SUCCESS);
    }
    let pruned = context.client.post("/images/prune").filters(&filters).value().await?;
    print(&pruned)?;
    output::line(reclaimed(&[&pruned]))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints which images were removed, and which of their names.
pub(crate) fn print(pruned: &Value) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for item in pruned["ImagesDeleted"].as_array().into_iter().flatten() {
        for (what, word) in [("Untagged", "untagged"), ("Deleted", "deleted")] {
            lines.extend(
                item[what].as_str().filter(|name| !name.is_empty()).map(|name| format!("{word}: {name}")),
            );
        }
    }
    if !lines.is_empty() {
        output::line(format_args!("Deleted Images:\n{}\n", lines.join("\n")))?;
    }
    Ok(())
}
