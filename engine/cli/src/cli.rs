//! The words of the command line.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::command::{container, daemon, image, inspect, network, system, volume};
use crate::context::{Context, GlobalOptions};
use crate::help;

/// Containers and images, with Docker's words
#[derive(Debug, Parser)]
#[command(
    name = "engine",
    version,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// Print version information and quit
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: (),
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
    Commit(container::commit::Args),
    Cp(container::cp::Args),
    Create(Box<container::create::Args>),
    Diff(container::diff::Args),
    Events(system::events::Args),
    Exec(container::exec::Args),
    Export(container::export::Args),
    History(image::history::Args),
    Images(image::images::Args),
    Import(image::import::Args),
    Info(system::info::Args),
    Inspect(inspect::Args),
    Kill(container::kill::Args),
    Load(image::load::Args),
    Logs(container::logs::Args),
    Pause(container::pause::Args),
    Port(container::port::Args),
    Ps(container::ps::Args),
    Pull(image::pull::Args),
    Push(image::push::Args),
    Rename(container::rename::Args),
    Restart(container::restart::Args),
    Rm(container::rm::Args),
    Rmi(image::rmi::Args),
    Run(Box<container::run::Args>),
    Save(image::save::Args),
    Search(image::search::Args),
    Start(container::start::Args),
    Stats(container::stats::Args),
    Stop(container::stop::Args),
    Tag(image::tag::Args),
    Top(container::top::Args),
    Unpause(container::unpause::Args),
    Update(container::update::Args),
    Version(system::version::Args),
    Wait(container::wait::Args),
    Login(system::login::Args),
    Logout(system::logout::Args),
    Completion(system::completion::Args),
    Man(system::man::Args),
    /// Manage containers
    #[command(subcommand)]
    Container(ContainerCommand),
    /// Manage images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Manage networks
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Manage volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Manage the engine
    #[command(subcommand)]
    System(SystemCommand),
    /// Manage builds
    #[command(subcommand)]
    Builder(BuilderCommand),
}

/// `engine container`
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerCommand {
    Attach(container::attach::Args),
    Commit(container::commit::Args),
    Cp(container::cp::Args),
    Create(Box<container::create::Args>),
    Diff(container::diff::Args),
    Exec(container::exec::Args),
    Export(container::export::Args),
    Inspect(container::inspect::Args),
    Kill(container::kill::Args),
    Logs(container::logs::Args),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(container::ps::Args),
    Pause(container::pause::Args),
    Port(container::port::Args),
    Prune(container::prune::Args),
    Rename(container::rename::Args),
    Restart(container::restart::Args),
    #[command(visible_alias = "remove")]
    Rm(container::rm::Args),
    Run(Box<container::run::Args>),
    Start(container::start::Args),
    Stats(container::stats::Args),
    Stop(container::stop::Args),
    Top(container::top::Args),
    Unpause(container::unpause::Args),
    Update(container::update::Args),
    Wait(container::wait::Args),
}

/// `engine image`
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    Build(Box<image::build::Args>),
    History(image::history::Args),
    Import(image::import::Args),
    Inspect(image::inspect::Args),
    Load(image::load::Args),
    #[command(visible_alias = "list")]
    Ls(image::images::Args),
    Prune(image::prune::Args),
    Pull(image::pull::Args),
    Push(image::push::Args),
    #[command(visible_alias = "remove")]
    Rm(image::rmi::Args),
    Save(image::save::Args),
    Tag(image::tag::Args),
}

/// `engine network`
#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    Connect(network::connect::Args),
    Create(network::create::Args),
    Disconnect(network::disconnect::Args),
    Inspect(network::inspect::Args),
    #[command(visible_alias = "list")]
    Ls(network::ls::Args),
    Prune(network::prune::Args),
    #[command(visible_alias = "remove")]
    Rm(network::rm::Args),
}

/// `engine volume`
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    Create(volume::create::Args),
    Inspect(volume::inspect::Args),
    #[command(visible_alias = "list")]
    Ls(volume::ls::Args),
    Prune(volume::prune::Args),
    #[command(visible_alias = "remove")]
    Rm(volume::rm::Args),
}

/// `engine system`
#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    Df(system::df::Args),
    Events(system::events::Args),
    Info(system::info::Args),
    Prune(system::prune::Args),
}

/// `engine builder`
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderCommand {
    Build(Box<image::build::Args>),
    Prune(system::builder::Args),
}

/// The whole command line, as a shell or a manual is to know it.
pub(crate) fn whole() -> clap::Command {
    help::adapt(Cli::command())
}

/// Reads the command line; what is wrong with it has been told when this fails.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let arguments: Vec<OsString> = arguments.collect();
    let mut root = whole();
    let words = || arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let parsed =
        root.try_get_matches_from_mut(&arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| help::refuse(&root, &words(), &error))
}

impl Command {
    /// Runs the command; the daemon itself is begun elsewhere.
    pub(crate) async fn run(self, context: &mut Context) -> anyhow::Result<ExitCode> {
        match self {
            // It is begun before there is anything to talk to.
            Self::Daemon(_) => Ok(ExitCode::SUCCESS),
            Self::Login(args) => system::login::run(context, &args).await,
            Self::Logout(args) => system::logout::run(context, &args),
            Self::Completion(args) => system::completion::run(&args),
            Self::Man(args) => system::man::run(&args),
            Self::Attach(args) => container::attach::run(context, &args).await,
            Self::Build(args) => image::build::run(context, &args).await,
            Self::Commit(args) => container::commit::run(context, &args).await,
            Self::Cp(args) => container::cp::run(context, &args).await,
            Self::Create(args) => container::create::run(context, &args).await,
            Self::Diff(args) => container::diff::run(context, &args).await,
            Self::Events(args) => system::events::run(context, &args).await,
            Self::Exec(args) => container::exec::run(context, &args).await,
            Self::Export(args) => container::export::run(context, &args).await,
            Self::History(args) => image::history::run(context, &args).await,
            Self::Images(args) => image::images::run(context, &args).await,
            Self::Import(args) => image::import::run(context, &args).await,
            Self::Info(args) => system::info::run(context, &args).await,
            Self::Inspect(args) => inspect::run(context, &args).await,
            Self::Kill(args) => container::kill::run(context, &args).await,
            Self::Load(args) => image::load::run(context, &args).await,
            Self::Logs(args) => container::logs::run(context, &args).await,
            Self::Pause(args) => container::pause::run(context, &args).await,
            Self::Port(args) => container::port::run(context, &args).await,
            Self::Ps(args) => container::ps::run(context, &args).await,
            Self::Pull(args) => image::pull::run(context, &args).await,
            Self::Push(args) => image::push::run(context, &args).await,
            Self::Rename(args) => container::rename::run(context, &args).await,
            Self::Restart(args) => container::restart::run(context, &args).await,
            Self::Rm(args) => container::rm::run(context, &args).await,
            Self::Rmi(args) => image::rmi::run(context, &args).await,
            Self::Run(args) => container::run::run(context, &args).await,
            Self::Save(args) => image::save::run(context, &args).await,
            Self::Search(args) => image::search::run(context, &args).await,
            Self::Start(args) => container::start::run(context, &args).await,
            Self::Stats(args) => container::stats::run(context, &args).await,
            Self::Stop(args) => container::stop::run(context, &args).await,
            Self::Tag(args) => image::tag::run(context, &args).await,
            Self::Top(args) => container::top::run(context, &args).await,
            Self::Unpause(args) => container::unpause::run(context, &args).await,
            Self::Update(args) => container::update::run(context, &args).await,
            Self::Version(args) => system::version::run(context, &args).await,
            Self::Wait(args) => container::wait::run(context, &args).await,
            Self::Container(command) => command.run(context).await,
            Self::Image(command) => command.run(context).await,
            Self::Network(command) => command.run(context).await,
            Self::Volume(command) => command.run(context).await,
            Self::System(command) => command.run(context).await,
            Self::Builder(command) => command.run(context).await,
        }
    }
}

impl ContainerCommand {
    async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Attach(args) => container::attach::run(context, &args).await,
            Self::Commit(args) => container::commit::run(context, &args).await,
            Self::Cp(args) => container::cp::run(context, &args).await,
            Self::Create(args) => container::create::run(context, &args).await,
            Self::Diff(args) => container::diff::run(context, &args).await,
            Self::Exec(args) => container::exec::run(context, &args).await,
            Self::Export(args) => container::export::run(context, &args).await,
            Self::Inspect(args) => container::inspect::run(context, &args).await,
            Self::Kill(args) => container::kill::run(context, &args).await,
            Self::Logs(args) => container::logs::run(context, &args).await,
            Self::Ls(args) => container::ps::run(context, &args).await,
            Self::Pause(args) => container::pause::run(context, &args).await,
            Self::Port(args) => container::port::run(context, &args).await,
            Self::Prune(args) => container::prune::run(context, &args).await,
            Self::Rename(args) => container::rename::run(context, &args).await,
            Self::Restart(args) => container::restart::run(context, &args).await,
            Self::Rm(args) => container::rm::run(context, &args).await,
            Self::Run(args) => container::run::run(context, &args).await,
            Self::Start(args) => container::start::run(context, &args).await,
            Self::Stats(args) => container::stats::run(context, &args).await,
            Self::Stop(args) => container::stop::run(context, &args).await,
            Self::Top(args) => container::top::run(context, &args).await,
            Self::Unpause(args) => container::unpause::run(context, &args).await,
            Self::Update(args) => container::update::run(context, &args).await,
            Self::Wait(args) => container::wait::run(context, &args).await,
        }
    }
}

impl ImageCommand {
    async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Build(args) => image::build::run(context, &args).await,
            Self::History(args) => image::history::run(context, &args).await,
            Self::Import(args) => image::import::run(context, &args).await,
            Self::Inspect(args) => image::inspect::run(context, &args).await,
            Self::Load(args) => image::load::run(context, &args).await,
            Self::Ls(args) => image::images::run(context, &args).await,
            Self::Prune(args) => image::prune::run(context, &args).await,
            Self::Pull(args) => image::pull::run(context, &args).await,
            Self::Push(args) => image::push::run(context, &args).await,
            Self::Rm(args) => image::rmi::run(context, &args).await,
            Self::Save(args) => image::save::run(context, &args).await,
            Self::Tag(args) => image::tag::run(context, &args).await,
        }
    }
}

impl NetworkCommand {
    async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Connect(args) => network::connect::run(context, &args).await,
            Self::Create(args) => network::create::run(context, &args).await,
            Self::Disconnect(args) => network::disconnect::run(context, &args).await,
            Self::Inspect(args) => network::inspect::run(context, &args).await,
            Self::Ls(args) => network::ls::run(context, &args).await,
            Self::Prune(args) => network::prune::run(context, &args).await,
            Self::Rm(args) => network::rm::run(context, &args).await,
        }
    }
}

impl VolumeCommand {
    async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Create(args) => volume::create::run(context, &args).await,
            Self::Inspect(args) => volume::inspect::run(context, &args).await,
            Self::Ls(args) => volume::ls::run(context, &args).await,
            Self::Prune(args) => volume::prune::run(context, &args).await,
            Self::Rm(args) => volume::rm::run(context, &args).await,
        }
    }
}

impl SystemCommand {
    async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Df(args) => system::df::run(context, &args).await,
            Self::Events(args) => system::events::run(context, &args).await,
            Self::Info(args) => system::info::run(context, &args).await,
            Self::Prune(args) => system::prune::run(context, &args).await,
        }
    }
}

impl BuilderCommand {
    async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self {
            Self::Build(args) => image::build::run(context, &args).await,
            Self::Prune(args) => system::builder::run(context, &args).await,
        }
    }
}
