use std::process::ExitCode;

use crate::client::ClientError;
use crate::context::Context;

/// Rename a container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let (old, new) = (args.container.trim(), args.name.trim());
    anyhow::ensure!(!old.is_empty() && !new.is_empty(), "Error: Neither old nor new names may be empty");
    let renamed =
        context.client.post(format!("{}/rename", super::path(old)?)).query("name", new).done().await;
    if let Err(error @ ClientError::Answer { .. }) = renamed {
        anyhow::bail!("{error}\nError: failed to rename container named {old}");
    }
    renamed?;
    Ok(ExitCode::SUCCESS)
}
