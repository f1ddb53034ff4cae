use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;

use crate::context::Context;
use crate::format::{Format, Listing, Row};
use crate::output;
use crate::units::{ago, ellipsis, short_bytes, short_id};

/// Show the history of an image
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(short = 'H', long, value_name = "bool", action = clap::ArgAction::Set, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Show history for the given platform
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
}

const LISTING: Listing = Listing {
    kind: "*image.historyContext",
    headers: &[
        ("Comment", "COMMENT"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("CreatedSince", "CREATED"),
        ("ID", "IMAGE"),
        ("Size", "SIZE"),
    ],
    table: "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};

/// The same with times instead of durations.
const EXACT: Listing = Listing {
    headers: &[
        ("Comment", "COMMENT"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("CreatedSince", "CREATED AT"),
        ("ID", "IMAGE"),
        ("Size", "SIZE"),
    ],
    ..LISTING
};

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let listing = if args.human { LISTING } else { EXACT };
    let format = Format::choose(listing, args.format.as_deref(), None, args.quiet.then_some("{{.ID}}"))?;
    let request = context.client.get(format!("{}/history", super::path(&args.image)?));
    let found = request.maybe("platform", args.platform.as_deref()).value().await?;
    let rows: Vec<Row> = found.as_array().into_iter().flatten().map(|step| row(step, args)).collect();
    output::text(&format.render(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}

fn row(step: &Value, args: &Args) -> Row {
    let text = |name: &str| step[name].as_str().unwrap_or_default();
    let time = step["Created"].as_i64().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or_default();
    let at = time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let by = text("CreatedBy").replace('\t', " ");
    let size = step["Size"].as_f64().unwrap_or_default();
    let since = if time.as_second() <= 0 { "N/A".to_owned() } else { ago(time) };
    Row::new([
        ("Comment", text("Comment").into()),
        ("CreatedAt", at.clone().into()),
        ("CreatedBy", (if args.no_trunc { by } else { ellipsis(&by, 45) }).into()),
        ("CreatedSince", (if args.human { since } else { at }).into()),
        ("ID", (if args.no_trunc { text("Id") } else { short_id(text("Id")) }).into()),
        ("Size", (if args.human { short_bytes(size) } else { format!("{size}") }).into()),
    ])
}
