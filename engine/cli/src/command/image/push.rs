use std::process::ExitCode;

use super::pull::parse;
use crate::context::Context;
use crate::progress::{self, Target};
use crate::{credentials, output};

/// Upload an image to a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Push a platform-specific manifest as a single-platform image to the registry
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let reference = parse(&args.name)?;
    let named = args.name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    anyhow::ensure!(!(args.all_tags && named), "tag can't be used with --all-tags/-a");
    if !args.all_tags && !named && !args.quiet {
        output::line("Using default tag: latest")?;
    }
    let credentials = credentials::find(&context.config, reference.registry())?;
    let request = context.client.post(format!("/images/{}/push", reference.familiar_name()));
    let tag = reference.tag().filter(|_| !args.all_tags);
    let request = request.maybe("tag", tag).maybe("platform", args.platform.as_deref());
    let answer = request.header("x-registry-auth", credentials.to_header()).send().await?;
    let target = if args.quiet { Target::Nowhere } else { Target::Stdout };
    progress::show(answer.lines(), target, |_| {}).await?;
    if args.quiet {
        output::line(reference.canonical())?;
    }
    Ok(ExitCode::SUCCESS)
}
