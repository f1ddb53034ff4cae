use std::path::PathBuf;
use std::process::ExitCode;

use crate::context::Context;
use crate::download;

/// Save one or more images to a tar archive (streamed to STDOUT by default)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<PathBuf>,
    /// Save only the given platform variant
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    download::check(args.output.as_deref(), "save image")?;
    let mut request = context.client.get("/images/get").maybe("platform", args.platform.as_deref());
    for image in &args.images {
        request = request.query("names", image);
    }
    download::write(request.send().await?, args.output.as_deref()).await?;
    Ok(ExitCode::SUCCESS)
}
