use std::process::ExitCode;

use crate::context::Context;
use crate::streams::Demux;
use crate::units::parse_time;

/// Fetch the logs of a container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show extra details provided to logs
    #[arg(long)]
    details: bool,
    /// Follow log output
    #[arg(short, long)]
    follow: bool,
    /// Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Number of lines to show from the end of the logs
    #[arg(short = 'n', long, value_name = "string", default_value = "all")]
    tail: String,
    /// Show timestamps
    #[arg(short, long)]
    timestamps: bool,
    /// Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)
    #[arg(long, value_name = "string")]
    until: Option<String>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let path = super::path(&args.container)?;
    let time = |name: &str, text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match parse_time(text) {
            Ok(time) => Ok(Some(time)),
            Err(error) => Err(anyhow::anyhow!("invalid value for {name:?}: {error}")),
        },
    };
    let (since, until) = (time("since", &args.since)?, time("until", &args.until)?);
    let found = context.client.get(format!("{path}/json")).value().await?;
    let request = context.client.get(format!("{path}/logs")).flag("stdout", true).flag("stderr", true);
    let request = request.flag("follow", args.follow).flag("timestamps", args.timestamps);
    let request = request.flag("details", args.details).query("tail", &args.tail);
    let mut answer = request.maybe("since", since).maybe("until", until).send().await?;
    let mut demux = Demux::new(found["Config"]["Tty"] == true);
    while let Some(piece) = answer.piece().await? {
        demux.feed(&piece)?;
    }
    Ok(ExitCode::SUCCESS)
}
