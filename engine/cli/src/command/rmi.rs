use std::process::ExitCode;

use engine::Engine;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The images.
    #[arg(required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    for name in &args.images {
        let removed = engine.remove_image(name).await?;
        for reference in &removed.untagged {
            output::line(format_args!("Untagged: {reference}"))?;
        }
        if let Some(id) = removed.deleted {
            output::line(format_args!("Deleted: {id}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
