use std::path::PathBuf;
use std::process::ExitCode;

use crate::context::Context;
use crate::download;

/// Export a container's filesystem as a tar archive
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    download::check(args.output.as_deref(), "export container")?;
    let answer = context.client.get(format!("{}/export", super::path(&args.container)?)).send().await?;
    download::write(answer, args.output.as_deref()).await?;
    Ok(ExitCode::SUCCESS)
}
