use std::process::ExitCode;

use engine::Engine;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids only.
    #[arg(short, long)]
    quiet: bool,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let images = engine.images().list()?;
    if args.quiet {
        images.iter().try_for_each(|image| output::line(image.id.0.short()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["REPOSITORY", "TAG", "IMAGE ID", "SIZE"].map(String::from).to_vec()];
    for image in &images {
        let (id, size) = (image.id.0.short(), output::bytes(image.file_bytes));
        if image.references.is_empty() {
            rows.push(vec!["<none>".to_owned(), "<none>".to_owned(), id.clone(), size.clone()]);
        }
        for reference in &image.references {
            let tag = reference.tag().unwrap_or("<none>").to_owned();
            rows.push(vec![reference.familiar_name(), tag, id.clone(), size.clone()]);
        }
    }
    output::table(&rows)?;
    Ok(ExitCode::SUCCESS)
}
