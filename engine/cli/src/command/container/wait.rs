use std::process::ExitCode;

use super::begin_wait;
use crate::command::Errors;
use crate::context::Context;
use crate::output;

/// Block until one or more containers stop, then print their exit codes
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let mut errors = Errors::default();
    for name in &args.containers {
        let waited = async { begin_wait(&context.client, &super::path(name)?, "not-running").await?.await };
        if let Some(code) = errors.keep(waited.await)? {
            output::line(code)?;
        }
    }
    errors.finish()
}
