use std::process::ExitCode;

use serde_json::Value;

use crate::command::container::ps;
use crate::command::image::images;
use crate::command::volume::ls;
use crate::context::Context;
use crate::format::{Format, Listing, Row};
use crate::output;
use crate::units::bytes;

/// Show docker disk usage
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const LISTING: Listing = Listing {
    kind: "*formatter.diskUsageContext",
    headers: &[
        ("Active", "ACTIVE"),
        ("Reclaimable", "RECLAIMABLE"),
        ("Size", "SIZE"),
        ("TotalCount", "TOTAL"),
        ("Type", "TYPE"),
    ],
    table: "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let usage = context.client.get("/system/df").value().await?;
    if args.verbose {
        anyhow::ensure!(
            args.format.as_deref().is_none_or(|format| format == "json"),
            "the verbose and the format options conflict"
        );
        return verbose(&usage, args.format.is_some());
    }
    let rows = [images_row(&usage), containers_row(&usage), volumes_row(&usage), cache_row(&usage)];
    output::text(&Format::choose(LISTING, args.format.as_deref(), None, None)?.render(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}

fn list<'a>(usage: &'a Value, name: &str) -> &'a [Value] {
    usage[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value) -> f64 {
    value.as_f64().filter(|number| *number > 0.0).unwrap_or_default()
}

fn row(kind: &str, total: usize, active: usize, size: f64, reclaimable: f64) -> Row {
    let reclaimable = reclaimable.abs();
    let share =
        if size > 0.0 { format!(" ({:.0}%)", (reclaimable * 100.0 / size).floor()) } else { String::new() };
    Row::new([
        ("Active", active.to_string().into()),
        ("Reclaimable", format!("{}{share}", bytes(reclaimable)).into()),
        ("Size", bytes(size).into()),
        ("TotalCount", total.to_string().into()),
        ("Type", kind.into()),
    ])
}

/// Layers that several images share count once.
fn images_row(usage: &Value) -> Row {
    let images = list(usage, "Images");
    let used = images.iter().filter(|image| number(&image["Containers"]) > 0.0);
    let size = number(&usage["LayersSize"]);
    // What is shared is not known of all.
    let known = |image: &&Value| image["SharedSize"].as_f64().is_some_and(|shared| shared >= 0.0);
    let own = |image: &Value| number(&image["Size"]) - number(&image["SharedSize"]);
    let in_use: f64 = used.clone().filter(known).map(own).sum();
    row("Images", images.len(), used.count(), size, (size - in_use).max(0.0))
}

fn containers_row(usage: &Value) -> Row {
    let containers = list(usage, "Containers");
    let is_active = |c: &&Value| matches!(c["State"].as_str(), Some("running" | "paused" | "restarting"));
    let size = |all: &mut dyn Iterator<Item = &Value>| -> f64 { all.map(|c| number(&c["SizeRw"])).sum() };
    let active = containers.iter().filter(is_active).count();
    let idle = size(&mut containers.iter().filter(|c| !is_active(c)));
    row("Containers", containers.len(), active, size(&mut containers.iter()), idle)
}

fn volumes_row(usage: &Value) -> Row {
    let volumes = list(usage, "Volumes");
    let is_used = |volume: &&Value| number(&volume["UsageData"]["RefCount"]) > 0.0;
    let size = |all: &mut dyn Iterator<Item = &Value>| -> f64 {
        all.map(|volume| number(&volume["UsageData"]["Size"])).sum()
    };
    let idle = size(&mut volumes.iter().filter(|volume| !is_used(volume)));
    row(
        "Local Volumes",
        volumes.len(),
        volumes.iter().filter(is_used).count(),
        size(&mut volumes.iter()),
        idle,
    )
}

fn cache_row(usage: &Value) -> Row {
    let cache = list(usage, "BuildCache");
    let own = |all: &mut dyn Iterator<Item = &Value>| -> f64 {
        all.filter(|item| item["Shared"] != true).map(|item| number(&item["Size"])).sum()
    };
    let used = cache.iter().filter(|item| item["InUse"] == true).count();
    let idle = own(&mut cache.iter().filter(|item| item["InUse"] != true));
    row("Build Cache", cache.len(), used, own(&mut cache.iter()), idle)
}

fn verbose(usage: &Value, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        output::line(usage)?;
        return Ok(ExitCode::SUCCESS);
    }
    let table = |title: &str, listing: Listing, rows: &[Row]| -> anyhow::Result<()> {
        output::text(&format!("{title}\n\n{}", Format::choose(listing, None, None, None)?.render(rows)?))
    };
    let rows: Vec<Row> = list(usage, "Images").iter().flat_map(images::rows_for_usage).collect();
    table("Images space usage:", images::USAGE, &rows)?;
    let rows: Vec<Row> = list(usage, "Containers").iter().map(container_row).collect();
    table("\nContainers space usage:", ps::USAGE, &rows)?;
    let rows: Vec<Row> = list(usage, "Volumes").iter().map(ls::row).collect();
    table("\nLocal Volumes space usage:", ls::USAGE, &rows)?;
    let cache = list(usage, "BuildCache");
    let total: f64 = cache.iter().map(|item| number(&item["Size"])).sum();
    output::line(format_args!("\nBuild cache usage: {}\n", bytes(total)))?;
    let rows: Vec<Row> = cache.iter().map(cache_item).collect();
    output::text(&Format::choose(CACHE, None, None, None)?.render(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Only what the container itself has written.
fn container_row(container: &Value) -> Row {
    let mut own = container.clone();
    own["SizeRootFs"] = 0.into();
    ps::row(&own, true)
}

const CACHE: Listing = Listing {
    kind: "*formatter.buildCacheContext",
    headers: &[
        ("CacheType", "CACHE TYPE"),
        ("CreatedSince", "CREATED"),
        ("ID", "CACHE ID"),
        ("LastUsedSince", "LAST USED"),
        ("Shared", "SHARED"),
        ("Size", "SIZE"),
        ("UsageCount", "USAGE"),
    ],
    table: "table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}",
};

fn cache_item(item: &Value) -> Row {
    let since = |name: &str| {
        let time = item[name].as_str().and_then(|text| text.parse().ok());
        time.map(crate::units::ago).unwrap_or_default()
    };
    let id = item["ID"].as_str().unwrap_or_default();
    Row::new([
        ("CacheType", item["Type"].clone()),
        ("CreatedSince", since("CreatedAt").into()),
        ("ID", crate::units::short_id(id).into()),
        ("LastUsedSince", since("LastUsedAt").into()),
        ("Shared", (item["Shared"] == true).to_string().into()),
        ("Size", bytes(number(&item["Size"])).into()),
        ("UsageCount", number(&item["UsageCount"]).to_string().into()),
    ])
}
