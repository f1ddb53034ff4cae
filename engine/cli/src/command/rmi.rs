use std::collections::HashSet;
use std::process::ExitCode;

use engine::Engine;
use engine_types::Reference;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The images.
    #[arg(required = true)]
    images: Vec<String>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    for name in &args.images {
        let image = engine.images().resolve(name)?;
        match name.parse::<Reference>() {
            Ok(reference) if engine.images().lookup(&reference)?.is_some() => {
                engine.images().untag(&reference)?;
                output::line(format_args!("Untagged: {reference}"))?;
            }
            _ => {}
        }
        if engine.images().references_of(image.id)?.is_empty() {
            engine.images().remove(image.id)?;
            output::line(format_args!("Deleted: {}", image.id))?;
        }
    }
    engine.images().collect(&HashSet::new())?;
    Ok(ExitCode::SUCCESS)
}
