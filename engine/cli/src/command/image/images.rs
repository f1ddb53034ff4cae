use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;

use crate::command::add_filter;
use crate::context::Context;
use crate::format::{Format, Listing, Row};
use crate::output;
use crate::units::{ago, go_time, short_bytes, short_id};

/// List images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

const LISTING: Listing = Listing {
    kind: "*formatter.imageContext",
    headers: &[
        ("Containers", "CONTAINERS"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedSince", "CREATED"),
        ("Digest", "DIGEST"),
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("SharedSize", "SHARED SIZE"),
        ("Size", "SIZE"),
        ("Tag", "TAG"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("VirtualSize", "SIZE"),
    ],
    table: "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};

/// The table of `system df -v`.
pub(crate) const USAGE: Listing = Listing {
    table: "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}",
    ..LISTING
};

/// The same with digests.
const DIGESTS: &str = "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let listing = if args.digests { Listing { table: DIGESTS, ..LISTING } } else { LISTING };
    let quiet = args.quiet.then_some("{{.ID}}");
    let configured = context.config.text("imagesFormat").filter(|_| !args.digests);
    let format = Format::choose(listing, args.format.as_deref(), configured, quiet)?;
    let mut filters = serde_json::Map::new();
    for filter in &args.filter {
        add_filter(&mut filters, filter);
    }
    if let Some(name) = &args.name {
        add_filter(&mut filters, &format!("reference={name}"));
    }
    let request = context.client.get("/images/json").flag("all", args.all).filters(&filters.into());
    let found = request.value().await?;
    let digests = args.digests || format.uses("Digest");
    let mut rows: Vec<Row> = Vec::new();
    for image in found.as_array().into_iter().flatten() {
        rows.extend(names(image, digests).into_iter().map(|name| row(image, &name, !args.no_trunc)));
    }
    output::text(&format.render(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The rows of an image in `system df -v`.
pub(crate) fn rows_for_usage(image: &Value) -> Vec<Row> {
    names(image, false).iter().map(|name| row(image, name, true)).collect()
}

/// Repository, tag and digest.
type Name = [String; 3];

const NONE: &str = "<none>";

/// What an image is called, a row each.
fn names(image: &Value, digests: bool) -> Vec<Name> {
    let list = |name: &str| -> Vec<&str> {
        let all = image[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.filter(|text| !text.starts_with("<none>")).collect()
    };
    let (tags, digest_list) = (list("RepoTags"), list("RepoDigests"));
    let mut names = Vec::new();
    for text in &tags {
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (*text, NONE),
        };
        let own = digest_list.iter().filter_map(|d| d.split_once('@')).filter(|(r, _)| *r == repository);
        let own: Vec<&str> = own.map(|(_, digest)| digest).collect();
        match own.as_slice() {
            [] => names.push([repository.to_owned(), tag.to_owned(), NONE.to_owned()]),
            [first, ..] if !digests => {
                names.push([repository.to_owned(), tag.to_owned(), (*first).to_owned()]);
            }
            all => names.extend(all.iter().map(|d| [repository.to_owned(), tag.to_owned(), (*d).to_owned()])),
        }
    }
    if tags.is_empty() {
        for text in &digest_list {
            let (repository, digest) = text.split_once('@').unwrap_or((text, NONE));
            names.push([repository.to_owned(), NONE.to_owned(), digest.to_owned()]);
        }
    }
    if names.is_empty() {
        names.push([NONE; 3].map(str::to_owned));
    }
    names
}

fn row(image: &Value, [repository, tag, digest]: &Name, truncate: bool) -> Row {
    let id = image["Id"].as_str().unwrap_or_default();
    let created =
        image["Created"].as_i64().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or_default();
    let count = |name: &str| match image[name].as_i64() {
        Some(count) if count >= 0 => count.to_string(),
        _ => "N/A".to_owned(),
    };
    let bytes = |name: &str| match image[name].as_f64() {
        Some(count) if count >= 0.0 => short_bytes(count),
        _ => "N/A".to_owned(),
    };
    let unique = match (image["Size"].as_f64(), image["SharedSize"].as_f64()) {
        (Some(size), Some(shared)) if size >= 0.0 && shared >= 0.0 => short_bytes(size - shared),
        _ => "N/A".to_owned(),
    };
    let row = Row::new([
        ("Containers", count("Containers").into()),
        ("CreatedAt", go_time(created).into()),
        ("CreatedSince", since(created).into()),
        ("Digest", digest.as_str().into()),
        ("ID", (if truncate { short_id(id) } else { id }).into()),
        ("Repository", repository.as_str().into()),
        ("SharedSize", bytes("SharedSize").into()),
        ("Size", bytes("Size").into()),
        ("Tag", tag.as_str().into()),
        ("UniqueSize", unique.into()),
        ("VirtualSize", image["Size"].as_f64().map_or_else(|| "N/A".to_owned(), crate::units::bytes).into()),
    ]);
    row.labelled(&image["Labels"])
}

/// Images without a date have none to be shown.
fn since(created: Timestamp) -> String {
    if created.as_second() <= 0 { "N/A".to_owned() } else { ago(created) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_for_each_name() {
        let images = [
            json!({"Id": "sha256:".to_owned() + &"ab".repeat(32), "RepoTags": ["one:1", "host:5000/two:latest"],
                "RepoDigests": ["one@sha256:00"], "Created": 0, "Size": 4_430_000}),
            json!({"Id": "sha256:".to_owned() + &"cd".repeat(32), "RepoTags": null, "RepoDigests": [], "Created": 0,
                "Size": 0}),
        ];
        let rows: Vec<Row> =
            images.iter().flat_map(|i| names(i, true).into_iter().map(|n| row(i, &n, true))).collect();
        let listing = Listing { table: DIGESTS, ..LISTING };
        insta::assert_snapshot!(Format::choose(listing, None, None, None).unwrap().render(&rows).unwrap(), @r"
        REPOSITORY      TAG       DIGEST      IMAGE ID       CREATED   SIZE
        one             1         sha256:00   abababababab   N/A       4.43MB
        host:5000/two   latest    <none>      abababababab   N/A       4.43MB
        <none>          <none>    <none>      cdcdcdcdcdcd   N/A       0B
        ");
    }
}
