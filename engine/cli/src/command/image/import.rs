use std::fs::File;
use std::process::ExitCode;

use anyhow::Context as _;
use http_body_util::BodyExt as _;

use crate::client::{Body, copy_in};
use crate::context::Context;
use crate::output;

/// Import the contents from a tarball to create a filesystem image
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    platform: Option<String>,
    /// The archive: a file, a URL, or - for standard input
    #[arg(value_name = "file|URL|-")]
    source: String,
    /// The name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let remote = ["http://", "https://"].iter().any(|scheme| args.source.starts_with(scheme));
    let mut request = context.client.post("/images/create");
    request = request.query("fromSrc", if remote { args.source.as_str() } else { "-" });
    request = request.maybe("repo", args.name.as_deref()).maybe("message", args.message.as_deref());
    request = request.maybe("platform", args.platform.as_deref());
    for change in &args.change {
        request = request.query("changes", change);
    }
    let body: Body = match args.source.as_str() {
        _ if remote => http_body_util::Empty::new().map_err(|never| match never {}).boxed(),
        "-" => copy_in(std::io::stdin()),
        path => copy_in(File::open(path).with_context(|| format!("open {path}"))?),
    };
    let answer = request.body("application/x-tar", body).send().await?;
    let mut lines = answer.lines();
    while let Some(line) = lines.next().await? {
        if let Some(message) = line["errorDetail"]["message"].as_str() {
            anyhow::bail!("{message}");
        }
        output::line(line["status"].as_str().unwrap_or_default())?;
    }
    Ok(ExitCode::SUCCESS)
}
