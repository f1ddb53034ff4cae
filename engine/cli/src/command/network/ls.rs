use std::process::ExitCode;

use serde_json::Value;

use crate::command::{filters, label_column};
use crate::context::Context;
use crate::format::{Format, Listing, Row};
use crate::output;
use crate::units::{go_time, short_id};

/// List networks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

const LISTING: Listing = Listing {
    kind: "*network.networkContext",
    headers: &[
        ("CreatedAt", "CREATED AT"),
        ("Driver", "DRIVER"),
        ("ID", "NETWORK ID"),
        ("IPv4", "IPV4"),
        ("IPv6", "IPV6"),
        ("Internal", "INTERNAL"),
        ("Labels", "LABELS"),
        ("Name", "NAME"),
        ("Scope", "SCOPE"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
};

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let quiet = args.quiet.then_some("{{.ID}}");
    let format =
        Format::choose(LISTING, args.format.as_deref(), context.config.text("networksFormat"), quiet)?;
    let found = context.client.get("/networks").filters(&filters(&args.filter)).value().await?;
    let mut found: Vec<Value> = found.as_array().cloned().unwrap_or_default();
    found.sort_by(|a, b| a["Name"].as_str().cmp(&b["Name"].as_str()));
    let rows: Vec<Row> = found.iter().map(|network| row(network, !args.no_trunc)).collect();
    output::text(&format.render(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}

fn row(network: &Value, truncate: bool) -> Row {
    let id = network["Id"].as_str().unwrap_or_default();
    let created = network["Created"].as_str().unwrap_or_default();
    let created = created.parse().map_or_else(|_| created.to_owned(), go_time);
    let flag = |name: &str| network[name].as_bool().unwrap_or(name == "EnableIPv4").to_string();
    let row = Row::new([
        ("CreatedAt", created.into()),
        ("Driver", network["Driver"].clone()),
        ("ID", (if truncate { short_id(id) } else { id }).into()),
        ("IPv4", flag("EnableIPv4").into()),
        ("IPv6", flag("EnableIPv6").into()),
        ("Internal", flag("Internal").into()),
        ("Labels", label_column(&network["Labels"]).into()),
        ("Name", network["Name"].clone()),
        ("Scope", network["Scope"].clone()),
    ]);
    row.labelled(&network["Labels"])
}
