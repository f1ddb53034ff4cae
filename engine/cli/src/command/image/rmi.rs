use std::process::ExitCode;

use crate::command::Errors;
use crate::context::Context;
use crate::output;

/// Remove one or more images
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut errors = Errors::default();
    for name in &args.images {
        let request = context.client.delete(super::path(name)?);
        let removed = request.flag("force", args.force).flag("noprune", args.no_prune).value().await;
        match removed {
            Err(error) if args.force && error.is_not_found() => output::complain(error),
            removed => {
                let removed = errors.keep(removed)?.unwrap_or_default();
                for item in removed.as_array().into_iter().flatten() {
                    for what in ["Deleted", "Untagged"] {
                        if let Some(name) = item[what].as_str() {
                            output::line(format_args!("{what}: {name}"))?;
                        }
                    }
                }
            }
        }
    }
    errors.finish()
}
