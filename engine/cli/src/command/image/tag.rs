use std::process::ExitCode;

use super::pull::parse;
use crate::context::Context;

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// Its further name
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let target = parse(&args.target).map_err(|error| {
        anyhow::anyhow!("Error parsing reference: {:?} is not a valid repository/tag: {error}", args.target)
    })?;
    anyhow::ensure!(target.digest().is_none(), "refusing to create a tag with a digest reference");
    let request = context.client.post(format!("{}/tag", super::path(&args.source)?));
    request.query("repo", target.familiar_name()).maybe("tag", target.tag()).done().await?;
    Ok(ExitCode::SUCCESS)
}
