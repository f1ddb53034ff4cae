//! The words of the command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::command::{container, daemon, image};
use crate::context::{Context, GlobalOptions};
use crate::help;

/// Containers and images, with Docker's words
#[derive(Debug, Parser)]
#[command(name = "engine", version, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Daemon(Box<daemon::Args>),
    Attach(container::attach::Args),
    Build(Box<image::build::Args>),
    Create(Box<container::create::Args>),
    Exec(container::exec::Args),
    Images(image::images::Args),
    Import(image::import::Args),
    Kill(container::kill::Args),
    Load(image::load::Args),
    Logs(container::logs::Args),
    Ps(container::ps::Args),
    Pull(image::pull::Args),
    Restart(container::restart::Args),
    Rm(container::rm::Args),
    Rmi(image::rmi::Args),
    Run(Box<container::run::Args>),
    Save(image::save::Args),
    Start(container::start::Args),
    Stop(container::stop::Args),
    Wait(container::wait::Args),
}

/// Reads the command line; what is wrong with it has been told when this fails.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let arguments: Vec<OsString> = arguments.collect();
    let mut root = help::adapt(Cli::command());
    let words = || arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let parsed = root.try_get_matches_from_mut(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| help::refuse(&root, &words(), &error))
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Daemon(_) => Ok(ExitCode::SUCCESS),
            Self::Attach(args) => container::attach::run(context, &args).await,
            Self::Build(args) => image::build::run(context, &args).await,
            Self::Create(args) => container::create::run(context, &args).await,
            Self::Exec(args) => container::exec::run(context, &args).await,
            Self::Images(args) => image::images::run(context, &args).await,
            Self::Import(args) => image::import::run(context, &args).await,
            Self::Kill(args) => container::kill::run(context, &args).await,
            Self::Load(args) => image::load::run(context, &args).await,
            Self::Logs(args) => container::logs::run(context, &args).await,
            Self::Ps(args) => container::ps::run(context, &args).await,
            Self::Pull(args) => image::pull::run(context, &args).await,
            Self::Restart(args) => container::restart::run(context, &args).await,
            Self::Rm(args) => container::rm::run(context, &args).await,
            Self::Rmi(args) => image::rmi::run(context, &args).await,
            Self::Run(args) => container::run::run(context, &args).await,
            Self::Save(args) => image::save::run(context, &args).await,
            Self::Start(args) => container::start::run(context, &args).await,
            Self::Stop(args) => container::stop::run(context, &args).await,
            Self::Wait(args) => container::wait::run(context, &args).await,
        }
    }
}
