use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use engine::image::PullOptions;
use engine::runtime::{RestartPolicy, StdStreams};
use engine::{ContainerConfig, Engine, Mount, MountKind, MountOptions, NetworkMode, Program};
use engine_types::{ErrorKind, ImageId, Reference};

use super::streams::{Streams, terminal_size};
use crate::health::HealthArgs;
use crate::output;

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = false)]
pub(crate) struct Args {
    /// Run in the background and print the container's id.
    #[arg(short, long)]
    detach: bool,
    /// Remove the container when it ends.
    #[arg(long)]
    rm: bool,
    /// Keep standard input open.
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Run a small init as PID 1.
    #[arg(long)]
    init: bool,
    /// Its name.
    #[arg(long)]
    name: Option<String>,
    /// Set an environment variable (NAME=value, or NAME to pass this process's on).
    #[arg(short, long)]
    env: Vec<String>,
    /// Mount a directory or volume (source:target[:ro]).
    #[arg(short, long)]
    volume: Vec<String>,
    /// Working directory.
    #[arg(short, long)]
    workdir: Option<String>,
    /// User and group.
    #[arg(short, long)]
    user: Option<String>,
    /// none, host, or a network's name.
    #[arg(long, visible_alias = "net", default_value = "bridge")]
    network: String,
    /// Publish a port on the host ([[address:][port or range]:]port[/protocol]).
    #[arg(short, long)]
    publish: Vec<String>,
    /// Publish all exposed ports on ports that are free.
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Name a port, or a range, that the container serves.
    #[arg(long)]
    expose: Vec<String>,
    /// What happens when it ends: no, always, unless-stopped or on-failure[:times].
    #[arg(long, default_value = "no")]
    restart: String,
    #[command(flatten)]
    health: HealthArgs,
    /// Instead of the image's entry point.
    #[arg(long)]
    entrypoint: Option<String>,
    /// The image.
    image: String,
    /// Command and arguments instead of the image's.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) async fn run(engine: &Engine, args: Args) -> anyhow::Result<ExitCode> {
    let restart: RestartPolicy = args.restart.parse().map_err(engine::Error::from)?;
    if args.rm && restart != RestartPolicy::No {
        return Err(engine::Error::RestartAndRemove.into());
    }
    let config = ContainerConfig { restart, ..config(engine, &args).await? };
    let id = engine.create_container(config).await?.to_string();
    let (streams, attached) = if args.detach {
        (StdStreams::Supervised, None)
    } else {
        let (streams, socket) = Streams::attach(args.interactive, args.tty)?;
        (StdStreams::Attached(socket), Some(streams))
    };
    let started = engine.start_container(&id, streams).await;
    let process = match started {
        Ok(process) => process,
        Err(error) => {
            if args.rm
                && let Err(left) = engine.remove_container(&id, true).await
            {
                eprintln!("engine: warning: container {id} stays, remove it with engine rm: {left}");
            }
            return Err(error.into());
        }
    };
    for warning in process.warnings() {
        eprintln!("engine: warning: {warning}");
    }
    let Some(attached) = attached else {
        output::line(&id)?;
        return Ok(ExitCode::SUCCESS);
    };
    if let (true, Some((rows, columns))) = (args.tty, terminal_size()) {
        process.resize(rows, columns)?;
    }
    let exit = process.wait().await?;
    attached.finish()?;
    if args.rm {
        engine.remove_container(&id, true).await?;
    }
    Ok(output::exit(exit.code))
}

async fn config(engine: &Engine, args: &Args) -> anyhow::Result<ContainerConfig> {
    let network = match args.network.as_str() {
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        "bridge" => {
            let network = engine.default_network().await?.id.to_string();
            NetworkMode::Network { network, aliases: Vec::new() }
        }
        name => NetworkMode::Network { network: name.to_owned(), aliases: Vec::new() },
    };
    let command = (!args.command.is_empty()).then(|| args.command.clone());
    let entrypoint = args.entrypoint.clone().map(|program| vec![program]);
    let mounts = args.volume.iter().map(|v| volume(v)).collect::<anyhow::Result<_>>()?;
    let (mut ports, mut exposed) = (Vec::new(), BTreeSet::new());
    for text in &args.publish {
        ports.extend(engine::parse_published(text).map_err(engine::Error::from)?);
    }
    for text in &args.expose {
        exposed.extend(engine::parse_exposed(text).map_err(engine::Error::from)?);
    }
    if network == NetworkMode::Host && (args.publish_all || !ports.is_empty()) {
        eprintln!("WARNING: Published ports are discarded when using host network mode");
    }
    let image = image(engine, &args.image).await?;
    let its_config = engine.images().get(image).map_err(engine::Error::from)?.config.config;
    Ok(ContainerConfig {
        name: args.name.clone(),
        program: Program::Command { entrypoint, command },
        env: args.env.iter().filter_map(|entry| environment(entry)).collect(),
        working_dir: args.workdir.clone(),
        user: args.user.clone(),
        terminal: args.tty,
        stdin: args.interactive,
        init: args.init,
        mounts,
        network,
        ports,
        exposed,
        publish_all: args.publish_all,
        health: args.health.resolve(&its_config)?,
        ..ContainerConfig::new(image)
    })
}

/// Finds an image, pulling it if absent.
pub(crate) async fn image(engine: &Engine, name: &str) -> anyhow::Result<ImageId> {
    match engine.images().resolve(name) {
        Ok(image) => Ok(image.id),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let reference: Reference = name.parse()?;
            eprintln!("Unable to find image '{reference}' locally");
            let options = PullOptions::default();
            Ok(engine.images().pull(&reference, &options, &|_| {}).await.map_err(engine::Error::from)?.id)
        }
        Err(e) => Err(engine::Error::from(e).into()),
    }
}

/// `NAME=value`, or `NAME` with the value it has here, if any.
fn environment(entry: &str) -> Option<String> {
    if entry.contains('=') {
        return Some(entry.to_owned());
    }
    std::env::var(entry).ok().map(|value| format!("{entry}={value}"))
}

fn volume(text: &str) -> anyhow::Result<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => anyhow::bail!("invalid volume {text:?}: expected source:target[:ro]"),
    };
    anyhow::ensure!(target.starts_with('/'), "invalid volume {text:?}: the target must be an absolute path");
    let kind = if source.starts_with('/') || source.starts_with('.') {
        let path = PathBuf::from(source).canonicalize().with_context(|| format!("volume source {source}"))?;
        MountKind::Bind(path)
    } else {
        MountKind::Volume(source.to_owned())
    };
    let read_only = options.split(',').any(|o| o == "ro");
    Ok(Mount { target: target.into(), kind, read_only, options: MountOptions::default() })
}
