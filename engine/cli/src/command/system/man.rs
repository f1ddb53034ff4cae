use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

/// Write a manual page for each command into a directory
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory; made if absent
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let failed = || format!("write manual pages to {}", args.directory.display());
    std::fs::create_dir_all(&args.directory).with_context(failed)?;
    clap_mangen::generate_to(crate::cli::whole(), &args.directory).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}
