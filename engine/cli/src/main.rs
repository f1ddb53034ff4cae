//! The `engine` command: containers and images as with `docker`, in this process, without a daemon; and the
//! daemon, for those who come by HTTP.

mod command;
mod health;
mod output;
mod ports;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use engine::Engine;
use engine_types::Paths;

/// How this program calls itself in messages.
const PROGRAM: &str = "engine";

#[derive(Debug, Parser)]
#[command(name = "engine", version, about = "Containers and images, without a daemon")]
struct Cli {
    /// Where containers and images are kept.
    #[arg(long, global = true, env = "LIGHTER_ROOT", default_value = "/var/lib/lighter")]
    root: PathBuf,
    /// Where sockets and locks are kept.
    #[arg(long, global = true, env = "LIGHTER_RUN", default_value = "/run/lighter")]
    run: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the Docker Engine API.
    Daemon(Box<command::daemon::Args>),
    /// Create and run a container.
    Run(Box<command::run::Args>),
    /// Run a command in a running container.
    Exec(command::exec::Args),
    /// List containers.
    Ps(command::ps::Args),
    /// List a container's published ports.
    Port(command::port::Args),
    /// Show a container's log.
    Logs(command::logs::Args),
    /// Wait for containers to end and print their exit codes.
    Wait(command::wait::Args),
    /// Stop containers.
    Stop(command::stop::Args),
    /// Remove containers.
    Rm(command::rm::Args),
    /// Build an image of a Dockerfile.
    Build(command::build::Args),
    /// List images.
    Images(command::images::Args),
    /// Make an image of a root file system archive.
    Import(command::import::Args),
    /// Load images from an archive.
    Load(command::load::Args),
    /// Write images to an archive.
    Save(command::save::Args),
    /// Get an image from a registry.
    Pull(command::pull::Args),
    /// Remove images.
    Rmi(command::rmi::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.command, Command::Daemon(_)) {
        engine::log::to_stderr(PROGRAM, false);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(dispatch(cli));
        // A read of standard input that nobody waits for any more must not keep the process.
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|error| output::failure(&error))
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let command = match cli.command {
        Command::Daemon(args) => return command::daemon::run(*args, cli.root, cli.run).await,
        command => command,
    };
    let engine = Engine::open(Paths::host(cli.root, cli.run)).await?;
    engine.stay_open();
    match command {
        // It opens the engine in its own way.
        Command::Daemon(_) => Ok(ExitCode::FAILURE),
        Command::Run(args) => command::run::run(&engine, *args).await,
        Command::Exec(args) => command::exec::run(&engine, args).await,
        Command::Ps(args) => command::ps::run(&engine, &args).await,
        Command::Port(args) => command::port::run(&engine, &args).await,
        Command::Logs(args) => command::logs::run(&engine, &args).await,
        Command::Wait(args) => command::wait::run(&engine, &args).await,
        Command::Stop(args) => command::stop::run(&engine, &args).await,
        Command::Rm(args) => command::rm::run(&engine, &args).await,
        Command::Build(args) => command::build::run(&engine, &args).await,
        Command::Images(args) => command::images::run(&engine, &args),
        Command::Import(args) => command::import::run(&engine, &args),
        Command::Load(args) => command::load::run(&engine, &args),
        Command::Save(args) => command::save::run(&engine, &args),
        Command::Pull(args) => command::pull::run(&engine, &args).await,
        Command::Rmi(args) => command::rmi::run(&engine, &args).await,
    }
}
