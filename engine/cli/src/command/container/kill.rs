use std::process::ExitCode;

use crate::command::for_each;
use crate::context::Context;

/// Kill one or more running containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    for_each(&args.containers, async |name| {
        let request = context.client.post(format!("{}/kill", super::path(name)?));
        request.maybe("signal", args.signal.as_deref()).done().await.map(drop)
    })
    .await
}
