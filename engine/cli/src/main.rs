//! The `engine` command: `engine daemon` serves the Docker Engine API; every other command is a client of such a
//! daemon, with Docker's words, tables, exit codes and errors.

mod archive;
mod cli;
mod client;
mod command;
mod config;
mod context;
mod credentials;
mod download;
mod failure;
mod format;
mod help;
mod options;
mod output;
mod progress;
mod streams;
mod units;

use std::process::ExitCode;

use cli::{Cli, Command};
use context::Context;

/// How this program calls itself in messages.
const PROGRAM: &str = "engine";

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(dispatch(cli));
        // A read of standard input that nobody waits for any more must not keep the process.
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|error| failure::report(&error))
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Daemon(args) = cli.command {
        return command::daemon::run(*args).await;
    }
    let mut context = Context::new(&cli.options)?;
    cli.command.run(&mut context).await
}
