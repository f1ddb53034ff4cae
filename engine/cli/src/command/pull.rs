use std::process::ExitCode;

use engine::Engine;
use engine::image::{PullEvent, PullOptions};
use engine_types::Reference;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image.
    name: Reference,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let progress = |event: PullEvent| match event {
        PullEvent::LayerExists { blob } => eprintln!("{}: Already exists", blob.short()),
        PullEvent::LayerDone { blob } => eprintln!("{}: Pull complete", blob.short()),
        PullEvent::MirrorFailed { registry, reason } => eprintln!("mirror {registry}: {reason}"),
        _ => {}
    };
    engine.images().pull(&args.name, &PullOptions::default(), &progress).await?;
    engine.images().sync()?;
    output::line(args.name.canonical())?;
    Ok(ExitCode::SUCCESS)
}
