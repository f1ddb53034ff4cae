use std::io::Write;
use std::process::ExitCode;

use engine::Engine;
use engine::runtime::log::{self, Stream};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container.
    container: String,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let container = engine.container(&args.container).await?;
    for entry in log::read(&container.log_path)? {
        match entry.stream {
            Stream::Stdout => std::io::stdout().write_all(entry.log.as_bytes())?,
            Stream::Stderr => std::io::stderr().write_all(entry.log.as_bytes())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
