use std::process::ExitCode;

use engine_types::{ParseReferenceError, Reference};

use crate::context::Context;
use crate::progress::{self, Target};
use crate::{credentials, output};

/// Download an image from a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let reference = parse(&args.name)?;
    anyhow::ensure!(!args.all_tags, "--all-tags is not supported: pull the tags that are needed one by one");
    if !args.quiet && reference.tag() == Some("latest") && !args.name.ends_with(":latest") {
        output::line("Using default tag: latest")?;
    }
    let target = if args.quiet { Target::Nowhere } else { Target::Stdout };
    pull(context, &args.name, args.platform.as_deref(), target).await?;
    output::line(reference.canonical())?;
    Ok(ExitCode::SUCCESS)
}

/// Pulls for a command whose own output is not about that.
pub(crate) async fn to_stderr(
    context: &Context,
    name: &str,
    platform: Option<&str>,
    quiet: bool,
) -> anyhow::Result<()> {
    pull(context, name, platform, if quiet { Target::Nowhere } else { Target::Stderr }).await
}

async fn pull(context: &Context, name: &str, platform: Option<&str>, target: Target) -> anyhow::Result<()> {
    let reference = parse(name)?;
    let credentials = credentials::find(&context.config, reference.registry())?;
    let request = context.client.post("/images/create").query("fromImage", reference.familiar_name());
    let digest = reference.digest().map(|digest| digest.to_string());
    let tag = digest.as_deref().or(reference.tag());
    let request = request.maybe("tag", tag).maybe("platform", platform);
    let answer = request.header("x-registry-auth", credentials.to_header()).send().await?;
    progress::show(answer.lines(), target, |_| {}).await?;
    Ok(())
}

/// Reads an image's name.
pub(crate) fn parse(name: &str) -> anyhow::Result<Reference> {
    name.parse::<Reference>().map_err(|error| match error {
        ParseReferenceError::Uppercase(_) => {
            let whole = if name.contains('/') { name.to_owned() } else { format!("library/{name}") };
            let repository = whole.split(':').next().unwrap_or(&whole);
            anyhow::anyhow!("invalid reference format: repository name ({repository}) must be lowercase")
        }
        ParseReferenceError::Format(_) => anyhow::anyhow!("invalid reference format"),
        other => other.into(),
    })
}

/// A name with its tag, as short as it may be.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.to_string())
}
