use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::client::copy_in;
use crate::context::Context;
use crate::progress::{self, Target};
use crate::streams;

/// Load an image from a tar archive or STDIN
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<PathBuf>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let body = match &args.input {
        Some(path) => copy_in(File::open(path).with_context(|| format!("open {}", path.display()))?),
        None => {
            anyhow::ensure!(!streams::stdin_is_terminal(), "requested load from stdin, but stdin is empty");
            copy_in(std::io::stdin())
        }
    };
    let request =
        context.client.post("/images/load").flag("quiet", args.quiet || !streams::stdout_is_terminal());
    let request = request.maybe("platform", args.platform.as_deref());
    let answer = request.body("application/x-tar", body).send().await?;
    progress::show(answer.lines(), Target::Stdout, |_| {}).await?;
    Ok(ExitCode::SUCCESS)
}
