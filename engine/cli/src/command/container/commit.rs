use std::process::ExitCode;

use crate::command::image::pull;
use crate::context::Context;
use crate::output;

/// Create a new image from a container's changes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, value_name = "string")]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Pause container during commit (default true)
    #[arg(short, long, value_name = "bool", action = clap::ArgAction::Set, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pause: bool,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// The name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut request =
        context.client.post("/commit").query("container", super::super::named("container", &args.container)?);
    if let Some(name) = &args.name {
        let reference = pull::parse(name)?;
        request = request.query("repo", reference.familiar_name()).maybe("tag", reference.tag());
    }
    for change in &args.change {
        request = request.query("changes", change);
    }
    request = request.maybe("author", args.author.as_deref()).maybe("comment", args.message.as_deref());
    if !args.pause {
        request = request.query("pause", 0);
    }
    let made = request.json(&serde_json::json!({})).value().await?;
    output::line(made["Id"].as_str().unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}
