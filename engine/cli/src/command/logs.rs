use std::io::Write;
use std::process::ExitCode;

use engine::Engine;
use engine::runtime::log::Stream;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container.
    container: String,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let container = engine.container(&args.container).await?;
    let mut log = engine.logs(&container, None, false).await?;
    while let Some(lines) = log.next().await? {
        for line in lines.iter() {
            let end = if line.newline { "\n" } else { "" };
            match line.stream {
                Stream::Stdout => write!(std::io::stdout(), "{}{end}", line.text)?,
                Stream::Stderr => write!(std::io::stderr(), "{}{end}", line.text)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
