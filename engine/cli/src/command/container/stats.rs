use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde_json::Value;

use super::stats_row::row;
use crate::client::ClientError;
use crate::command::Errors;
use crate::context::Context;
use crate::format::{Format, Listing, Row};
use crate::{output, streams};

/// Display a live stream of container(s) resource usage statistics
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE'
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Disable streaming stats and only pull the first result
    #[arg(long)]
    no_stream: bool,
    /// Do not truncate output
    #[arg(long)]
    no_trunc: bool,
    /// The containers
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
}

const LISTING: Listing = Listing {
    kind: "*container.statsContext",
    headers: &[
        ("BlockIO", "BLOCK I/O"),
        ("CPUPerc", "CPU %"),
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("MemPerc", "MEM %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("Name", "NAME"),
        ("NetIO", "NET I/O"),
        ("PIDs", "PIDS"),
    ],
    table: "table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
};

/// How often what is known is shown anew.
const REFRESH: Duration = Duration::from_millis(500);
/// Clears the terminal and goes to its first line.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let format = Format::choose(LISTING, args.format.as_deref(), context.config.text("statsFormat"), None)?;
    if args.no_stream {
        let names = names(context, args).await?;
        let answers: Vec<_> = futures::stream::iter(&names)
            .map(|name| async move { (name, once(context, name).await) })
            .buffered(super::super::AT_ONCE)
            .collect()
            .await;
        let (mut rows, mut errors) = (Vec::new(), Errors::default());
        for (name, answer) in answers {
            if let Some(stats) = errors.keep(answer)? {
                rows.push(row(name, &stats, !args.no_trunc));
            }
        }
        output::text(&format.render(&rows)?)?;
        return errors.finish();
    }
    follow(context, args, &format).await
}

async fn once(context: &Context, name: &str) -> Result<Value, ClientError> {
    context.client.get(format!("{}/stats", super::path(name)?)).query("stream", 0).value().await
}

/// Those that were named, or all.
async fn names(context: &Context, args: &Args) -> Result<Vec<String>, ClientError> {
    if !args.containers.is_empty() {
        return Ok(args.containers.clone());
    }
    let found = context.client.get("/containers/json").flag("all", args.all).value().await?;
    let ids = found.as_array().into_iter().flatten().filter_map(|c| c["Id"].as_str());
    Ok(ids.map(str::to_owned).collect())
}

/// Shows what comes until it is interrupted; when only named containers are shown, until all of them are gone.
async fn follow(context: &Context, args: &Args, format: &Format) -> anyhow::Result<ExitCode> {
    let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
    let mut known: Vec<String> = Vec::new();
    let mut following = FuturesUnordered::new();
    let mut tick = tokio::time::interval(REFRESH);
    let mut look = tokio::time::interval(REFRESH * 4);
    loop {
        tokio::select! {
            _ = look.tick(), if args.containers.is_empty() || known.is_empty() => {
                for name in names(context, args).await? {
                    if !known.contains(&name) {
                        known.push(name.clone());
                        let answer = context.client.get(format!("{}/stats", super::path(&name)?)).query("stream", 1).send().await?;
                        following.push(next(known.len() - 1, answer.lines()));
                    }
                }
            }
            Some((at, stats, lines)) = following.next() => match stats? {
                Some(stats) => {
                    rows.insert(at, row(&known[at], &stats, !args.no_trunc));
                    following.push(next(at, lines));
                }
                None => {
                    rows.remove(&at);
                    if following.is_empty() && !args.containers.is_empty() {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
            },
            _ = tick.tick() => {
                let all: Vec<Row> = rows.values().cloned().collect();
                let clear = if streams::stdout_is_terminal() { CLEAR } else { "" };
                output::text(&format!("{clear}{}", format.render(&all)?))?;
            }
        }
    }
}

type Lines<'a> = crate::client::JsonLines<'a>;

async fn next(at: usize, mut lines: Lines<'_>) -> (usize, Result<Option<Value>, ClientError>, Lines<'_>) {
    (at, lines.next().await, lines)
}
