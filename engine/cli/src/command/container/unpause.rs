use std::process::ExitCode;

use crate::command::for_each;
use crate::context::Context;

/// Unpause all processes within one or more containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    for_each(&args.containers, async |name| {
        context.client.post(format!("{}/unpause", super::path(name)?)).done().await.map(drop)
    })
    .await
}
