use std::process::ExitCode;

use serde_json::Value;

use crate::context::Context;
use crate::format::{Format, Listing, Row};
use crate::output;

/// Inspect changes to files or directories on a container's filesystem
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

const LISTING: Listing = Listing {
    kind: "*container.diffContext",
    headers: &[("Path", "PATH"), ("Type", "CHANGE TYPE")],
    table: "{{.Type}} {{.Path}}",
};

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let found = context.client.get(format!("{}/changes", super::path(&args.container)?)).value().await?;
    let rows: Vec<Row> = found.as_array().into_iter().flatten().map(row).collect();
    output::text(&Format::choose(LISTING, None, None, None)?.render(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}

fn row(change: &Value) -> Row {
    let kind = match change["Kind"].as_i64() {
        Some(1) => "A",
        Some(2) => "D",
        _ => "C",
    };
    Row::new([("Path", change["Path"].clone()), ("Type", kind.into())])
}
