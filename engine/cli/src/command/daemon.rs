use std::path::PathBuf;
use std::process::ExitCode;

use engine::Engine;
use engine_api::{Address, Server};
use tokio::signal::unix::{SignalKind, signal};

/// Serve the Docker Engine API
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen: unix:///PATH or tcp://127.0.0.1:PORT; may be given several times.
    #[arg(short = 'H', long, default_value = "unix:///run/lighter/docker.sock")]
    host: Vec<Address>,
    /// Where containers and images are kept.
    #[arg(long, value_name = "string", env = "LIGHTER_ROOT", default_value = "/var/lib/lighter")]
    data_root: PathBuf,
    /// Where sockets and locks are kept.
    #[arg(long, value_name = "string", env = "LIGHTER_RUN", default_value = "/run/lighter")]
    exec_root: PathBuf,
}

impl Args {
    /// The root and the run directory.
    pub(crate) fn paths(&self) -> (PathBuf, PathBuf) {
        (self.data_root.clone(), self.exec_root.clone())
    }
}

/// Serves until it is told to end; containers run on.
pub(crate) async fn run(engine: Engine, args: Args) -> anyhow::Result<ExitCode> {
    // From here on neither signal kills: what is being made is finished first.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let server = Server::bind(engine, &args.host).await?;
    for address in &args.host {
        eprintln!("engine: listening at {address}");
    }
    let end = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    server.serve(end).await;
    Ok(ExitCode::SUCCESS)
}
