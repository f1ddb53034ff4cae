use std::process::ExitCode;

use crate::command::for_each;
use crate::context::Context;

/// Remove one or more volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    /// The volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    for_each(&args.volumes, async |name| {
        context.client.delete(super::path(name)?).flag("force", args.force).done().await.map(drop)
    })
    .await
}
