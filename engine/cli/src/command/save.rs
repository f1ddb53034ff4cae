use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use engine::Engine;
use engine::image::ArchiveFormat;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive; standard output if absent.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The images.
    #[arg(required = true)]
    images: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let mut images = Vec::new();
    for name in &args.images {
        let image = engine.images().resolve(name)?;
        let references =
            name.parse().into_iter().filter(|r| engine.images().lookup(r).is_ok_and(|id| id.is_some()));
        images.push((image, references.collect()));
    }
    let out: Box<dyn Write> = match &args.output {
        Some(path) => Box::new(File::create(path).with_context(|| path.display().to_string())?),
        None => Box::new(std::io::stdout().lock()),
    };
    engine.images().save(&images, out, ArchiveFormat::Docker)?;
    Ok(ExitCode::SUCCESS)
}
