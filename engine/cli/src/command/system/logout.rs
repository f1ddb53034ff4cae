use std::process::ExitCode;

use crate::context::Context;
use crate::{credentials, output};

/// Log out from a registry
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The registry; Docker Hub if absent
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

pub(crate) fn run(context: &mut Context, args: &Args) -> anyhow::Result<ExitCode> {
    let server = args.server.as_deref().unwrap_or("docker.io");
    let shown = credentials::key_of(server).to_owned();
    match credentials::forget(&mut context.config, server)? {
        true => output::line(format_args!("Removing login credentials for {shown}"))?,
        false => output::line(format_args!("Not logged in to {shown}"))?,
    }
    Ok(ExitCode::SUCCESS)
}
