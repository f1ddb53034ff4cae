use std::process::ExitCode;

use crate::command::for_each;
use crate::context::Context;

/// Restart one or more containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, visible_alias = "time", value_name = "int")]
    timeout: Option<i64>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    for_each(&args.containers, async |name| {
        let request = context.client.post(format!("{}/restart", super::path(name)?));
        request.maybe("t", args.timeout).maybe("signal", args.signal.as_deref()).done().await.map(drop)
    })
    .await
}
