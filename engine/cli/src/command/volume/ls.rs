use std::process::ExitCode;

use serde_json::Value;

use crate::command::{filters, label_column};
use crate::context::Context;
use crate::format::{Format, Listing, Row};
use crate::output;
use crate::units::bytes;

/// List volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing = Listing {
    kind: "*formatter.volumeContext",
    headers: &[
        ("Availability", "AVAILABILITY"),
        ("Driver", "DRIVER"),
        ("Group", "GROUP"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Name", "VOLUME NAME"),
        ("Scope", "SCOPE"),
        ("Size", "SIZE"),
        ("Status", "STATUS"),
    ],
    table: "table {{.Driver}}\t{{.Name}}",
};

/// The table of `system df -v`.
pub(crate) const USAGE: Listing = Listing { table: "table {{.Name}}\t{{.Links}}\t{{.Size}}", ..LISTING };

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let quiet = args.quiet.then_some("{{.Name}}");
    let format =
        Format::choose(LISTING, args.format.as_deref(), context.config.text("volumesFormat"), quiet)?;
    let found = context.client.get("/volumes").filters(&filters(&args.filter)).value().await?;
    let mut found: Vec<Value> = found["Volumes"].as_array().cloned().unwrap_or_default();
    found.sort_by(|a, b| a["Name"].as_str().cmp(&b["Name"].as_str()));
    let rows: Vec<Row> = found.iter().map(row).collect();
    output::text(&format.render(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// A row of `volume ls`, and of `system df -v`.
pub(crate) fn row(volume: &Value) -> Row {
    let usage = &volume["UsageData"];
    let size = usage["Size"].as_f64().filter(|size| *size >= 0.0).map_or_else(|| "N/A".to_owned(), bytes);
    let links = usage["RefCount"].as_i64().filter(|count| *count >= 0);
    let row = Row::new([
        ("Availability", "N/A".into()),
        ("Driver", volume["Driver"].clone()),
        ("Group", "N/A".into()),
        ("Labels", label_column(&volume["Labels"]).into()),
        ("Links", links.map_or_else(|| "N/A".to_owned(), |count| count.to_string()).into()),
        ("Mountpoint", volume["Mountpoint"].clone()),
        ("Name", volume["Name"].clone()),
        ("Scope", volume["Scope"].clone()),
        ("Size", size.into()),
        ("Status", "N/A".into()),
    ]);
    row.labelled(&volume["Labels"])
}
