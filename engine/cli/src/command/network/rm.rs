use std::process::ExitCode;

use crate::command::for_each;
use crate::context::Context;

/// Remove one or more networks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
    /// The networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    for_each(&args.networks, async |name| match context.client.delete(super::path(name)?).done().await {
        Err(error) if args.force && error.is_not_found() => Ok(()),
        done => done.map(drop),
    })
    .await
}
