use std::process::ExitCode;

use crate::command::for_each;
use crate::context::Context;

/// Remove one or more containers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove the specified link
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    for_each(&args.containers, async |name| {
        let request = context.client.delete(super::path(name.trim_matches('/'))?);
        let request = request.flag("force", args.force).flag("link", args.link).flag("v", args.volumes);
        match request.done().await {
            // What is gone need not be removed by force.
            Err(error) if args.force && error.is_not_found() => {
                crate::output::complain(error);
                Ok(())
            }
            done => done.map(drop),
        }
    })
    .await
}
