use std::process::ExitCode;

use serde_json::Value;

use crate::command::filters;
use crate::context::Context;
use crate::format::{Format, Listing, Row};
use crate::units::ellipsis;
use crate::{credentials, output};

/// Search Docker Hub for images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "int")]
    limit: Option<u32>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// What to look for
    #[arg(value_name = "TERM")]
    term: String,
}

const LISTING: Listing = Listing {
    kind: "*registry.searchContext",
    headers: &[
        ("Description", "DESCRIPTION"),
        ("IsAutomated", "AUTOMATED"),
        ("IsOfficial", "OFFICIAL"),
        ("Name", "NAME"),
        ("StarCount", "STARS"),
    ],
    table: "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}",
};

/// Letters of a description that are shown.
const DESCRIPTION_MAX: usize = 45;

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let format = Format::choose(LISTING, args.format.as_deref(), None, None)?;
    let registry = match args.term.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    };
    let credentials = credentials::find(&context.config, registry)?;
    let request = context.client.get("/images/search").query("term", &args.term);
    let request = request.maybe("limit", args.limit).filters(&filters(&args.filter));
    let found = request.header("x-registry-auth", credentials.to_header()).value().await?;
    let mut found: Vec<Value> = found.as_array().cloned().unwrap_or_default();
    found.sort_by_key(|result| std::cmp::Reverse(result["star_count"].as_i64()));
    let mark = |on: &Value| if *on == true { "[OK]" } else { "" };
    let row = |result: &Value| {
        let text = |name: &str| result[name].as_str().unwrap_or_default().replace(['\n', '\r'], " ");
        let description = text("description");
        let description = if args.no_trunc { description } else { ellipsis(&description, DESCRIPTION_MAX) };
        Row::new([
            ("Description", description.into()),
            ("IsAutomated", mark(&result["is_automated"]).into()),
            ("IsOfficial", mark(&result["is_official"]).into()),
            ("Name", text("name").into()),
            ("StarCount", result["star_count"].as_i64().unwrap_or(0).to_string().into()),
        ])
    };
    let rows: Vec<Row> = found.iter().map(row).collect();
    output::text(&format.render(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}
