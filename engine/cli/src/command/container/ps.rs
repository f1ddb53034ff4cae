use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;

use super::ps_ports;
use crate::command::{filters, label_column};
use crate::context::Context;
use crate::format::{Format, Listing, Row};
use crate::output;
use crate::units::{ago, ellipsis, go_time, short_bytes, short_id};

/// List containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = crate::command::filter_text)]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", default_value = "-1")]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

const LISTING: Listing = Listing {
    kind: "*formatter.ContainerContext",
    headers: &[
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Labels", "LABELS"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Mounts", "MOUNTS"),
        ("Names", "NAMES"),
        ("Networks", "NETWORKS"),
        ("Platform", "PLATFORM"),
        ("Ports", "PORTS"),
        ("RunningFor", "CREATED"),
        ("Size", "SIZE"),
        ("State", "STATE"),
        ("Status", "STATUS"),
    ],
    table: "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
};

/// The table of `system df -v`.
pub(crate) const USAGE: Listing = Listing {
    table: "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}",
    ..LISTING
};

/// The same with the sizes.
const SIZED: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let listing = if args.size { Listing { table: SIZED, ..LISTING } } else { LISTING };
    let quiet = args.quiet.then_some("{{.ID}}");
    let configured = context.config.text("psFormat").filter(|_| !args.size);
    let format = Format::choose(listing, args.format.as_deref(), configured, quiet)?;
    let last = if args.latest { 1 } else { args.last };
    let request = context.client.get("/containers/json").flag("all", args.all);
    let request = request.maybe("limit", Some(last).filter(|&last| last > 0));
    let request = request.flag("size", args.size || format.uses("Size"));
    let found = request.filters(&filters(&args.filter)).value().await?;
    let rows: Vec<Row> = found.as_array().into_iter().flatten().map(|c| row(c, !args.no_trunc)).collect();
    output::text(&format.render(&rows)?)?;
    Ok(ExitCode::SUCCESS)
}

/// A row of `ps`, and of `system df -v`.
pub(crate) fn row(container: &Value, truncate: bool) -> Row {
    let text = |name: &str| container[name].as_str().unwrap_or_default();
    let id = if truncate { short_id(text("Id")) } else { text("Id") };
    let created = container["Created"].as_i64().and_then(|at| Timestamp::from_second(at).ok());
    let created = created.unwrap_or_default();
    let command = if truncate { ellipsis(text("Command"), 20) } else { text("Command").to_owned() };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mounts = list(&container["Mounts"]);
    let mount_name = |mount: &Value| {
        let name = mount["Name"].as_str().filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| mount["Source"].as_str().unwrap_or_default());
        if truncate { ellipsis(name, 15) } else { name.to_owned() }
    };
    let local = mounts.iter().filter(|mount| mount["Driver"] == "local").count();
    let networks = container["NetworkSettings"]["Networks"].as_object();
    let networks: Vec<&str> = networks.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let row = Row::new([
        ("Command", format!("\"{}\"", escaped(&command)).into()),
        ("CreatedAt", go_time(created).into()),
        ("ID", id.into()),
        ("Image", image(container, truncate).into()),
        ("Labels", label_column(&container["Labels"]).into()),
        ("LocalVolumes", local.to_string().into()),
        ("Mounts", mounts.iter().map(mount_name).collect::<Vec<_>>().join(",").into()),
        ("Names", names(&list(&container["Names"]), truncate).into()),
        ("Networks", networks.join(",").into()),
        ("Platform", Value::Null),
        ("Ports", ps_ports::column(&list(&container["Ports"])).into()),
        ("RunningFor", ago(created).into()),
        ("Size", size(container).into()),
        ("State", text("State").into()),
        ("Status", text("Status").into()),
    ]);
    row.labelled(&container["Labels"])
}

/// As Go quotes text.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t")
}

/// The image's name without what every name has; its id where it has none.
fn image(container: &Value, truncate: bool) -> String {
    let (image, id) =
        (container["Image"].as_str().unwrap_or_default(), container["ImageID"].as_str().unwrap_or_default());
    if image.is_empty() {
        return "<no image>".to_owned();
    }
    if !truncate {
        return image.to_owned();
    }
    if short_id(image) == short_id(id) && !id.is_empty() {
        return short_id(id).to_owned();
    }
    match image.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => image.to_owned(),
    }
}

fn names(names: &[Value], truncate: bool) -> String {
    let mut names = names.iter().filter_map(Value::as_str).map(|name| name.trim_start_matches('/'));
    if truncate {
        // The others are of links.
        return names.find(|name| !name.contains('/')).unwrap_or_default().to_owned();
    }
    names.collect::<Vec<_>>().join(",")
}

fn size(container: &Value) -> String {
    let number = |name: &str| container[name].as_f64().unwrap_or_default();
    let (written, all) = (number("SizeRw"), number("SizeRootFs"));
    match all > 0.0 {
        true => format!("{} (virtual {})", short_bytes(written), short_bytes(all)),
        false => short_bytes(written),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_table_of_containers() {
        let container = |id: &str, name: &str, ports: Value| {
            json!({
                "Id": id.repeat(32), "Names": ["/other/link", format!("/{name}")], "Image": "busybox:1",
                "ImageID": "sha256:0", "Command": "sh -c 'echo \"a long command\"'", "Created": 0,
                "Ports": ports, "Labels": {"b": "2", "a": "1"}, "State": "running", "Status": "Up 2 minutes",
                "SizeRw": 1234, "SizeRootFs": 4_500_000, "Mounts": [],
                "NetworkSettings": {"Networks": {"bridge": {}}},
            })
        };
        let ports = json!([
            {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
            {"PrivatePort": 443, "Type": "tcp"},
        ]);
        let rows =
            [container("ab", "web", ports), container("cd", "worker", json!([]))].map(|c| row(&c, true));
        let format = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}\t{{.Label \"a\"}}";
        let table = Format::choose(LISTING, Some(format), None, None).unwrap().render(&rows).unwrap();
        insta::assert_snapshot!(table, @r#"
        CONTAINER ID   IMAGE       COMMAND                   STATUS         PORTS                           NAMES     SIZE                     a
        abababababab   busybox:1   "sh -c 'echo \"a long…"   Up 2 minutes   443/tcp, 0.0.0.0:8080->80/tcp   web       1.23kB (virtual 4.5MB)   1
        cdcdcdcdcdcd   busybox:1   "sh -c 'echo \"a long…"   Up 2 minutes                                   worker    1.23kB (virtual 4.5MB)   1
        "#);
    }
}
