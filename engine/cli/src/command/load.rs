use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use engine::Engine;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive; standard input if absent.
    #[arg(short, long)]
    input: Option<PathBuf>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let archive: Box<dyn Read + Send> = match &args.input {
        Some(path) => Box::new(File::open(path).with_context(|| path.display().to_string())?),
        None => Box::new(std::io::stdin()),
    };
    let all = engine.images().load(archive)?;
    engine.images().sync()?;
    for loaded in all {
        if loaded.references.is_empty() {
            output::line(format_args!("Loaded image ID: {}", loaded.image.id))?;
        }
        for reference in &loaded.references {
            output::line(format_args!("Loaded image: {reference}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
