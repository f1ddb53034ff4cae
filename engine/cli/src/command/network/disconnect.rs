use std::process::ExitCode;

use serde_json::json;

use crate::context::Context;

/// Disconnect a container from a network
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let body = json!({ "Container": args.container, "Force": args.force });
    context.client.post(format!("{}/disconnect", super::path(&args.network)?)).json(&body).done().await?;
    Ok(ExitCode::SUCCESS)
}
