//! `engine daemon`: the Docker Engine API.

mod config;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use engine::Engine;
use engine_api::{Address, Server};
use engine_types::Paths;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use config::{DEFAULT_FILE, Options};

// dockerd's options, of those that mean something here. All can stand in a file as well.
/// Serve the Docker Engine API
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen: unix:///PATH, tcp://IP[:PORT] or fd://[NAME]; may be given several times.
    #[arg(short = 'H', long)]
    host: Vec<Address>,
    /// Where containers and images are kept [default: $LIGHTER_ROOT or /var/lib/lighter].
    #[arg(long)]
    data_root: Option<PathBuf>,
    /// Where sockets and locks are kept [default: $LIGHTER_RUN or /run/lighter].
    #[arg(long)]
    exec_root: Option<PathBuf>,
    /// The file with further options, in JSON.
    #[arg(long, default_value = DEFAULT_FILE)]
    config_file: PathBuf,
    /// Say whether the file is right, and end.
    #[arg(long)]
    validate: bool,
    /// Tell more.
    #[arg(short = 'D', long)]
    debug: bool,
    /// Speak TLS by tcp; --tls=false allows plain tcp at addresses that others reach.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tls: Option<bool>,
    /// Speak TLS by tcp, and only to clients with a certificate of --tlscacert.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    tlsverify: Option<bool>,
    /// The authority of clients' certificates.
    #[arg(long)]
    tlscacert: Option<PathBuf>,
    /// The daemon's certificate.
    #[arg(long)]
    tlscert: Option<PathBuf>,
    /// The key of the daemon's certificate.
    #[arg(long)]
    tlskey: Option<PathBuf>,
    /// Where images of Docker Hub are looked for first.
    #[arg(long)]
    registry_mirror: Vec<String>,
    /// A registry (host[:port]) that speaks plain HTTP.
    #[arg(long)]
    insecure_registry: Vec<String>,
    /// The host's address on the default network, with the length of its subnet: 192.168.5.1/24.
    #[arg(long)]
    bip: Option<String>,
    /// What networks are cut out of: base=10.0.0.0/8,size=24.
    #[arg(long)]
    default_address_pool: Vec<String>,
    /// A DNS server for containers.
    #[arg(long)]
    dns: Vec<IpAddr>,
    /// An option for containers' resolv.conf.
    #[arg(long)]
    dns_opt: Vec<String>,
    /// A search domain for containers.
    #[arg(long)]
    dns_search: Vec<String>,
    /// Where containers' output goes, unless they say so themselves.
    #[arg(long)]
    log_driver: Option<String>,
    /// An option of that driver: NAME=VALUE.
    #[arg(long)]
    log_opt: Vec<String>,
}

/// Serves until it is told to end; containers run on.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let directory =
        |name: &str, default: &str| PathBuf::from(std::env::var_os(name).unwrap_or(default.into()));
    let (root, run_dir) =
        (directory("LIGHTER_ROOT", "/var/lib/lighter"), directory("LIGHTER_RUN", "/run/lighter"));
    let file = args.config_file.clone();
    let from_file = Options::read(&file, file.as_os_str() != DEFAULT_FILE)?;
    let validate = args.validate;
    let options = Options::of_flags(args)?.with_file(from_file, &file)?;
    engine::log::to_stderr(crate::PROGRAM, options.debug());
    let listen = options.listen(&run_dir)?;
    let settings = options.settings()?;
    if validate {
        crate::output::line("configuration OK")?;
        return Ok(ExitCode::SUCCESS);
    }
    allow_many_connections()?;
    // From here on neither signal kills: what is being made is finished first.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (root, run_dir) = (options.data_root.unwrap_or(root), options.exec_root.unwrap_or(run_dir));
    let engine = Engine::open_with(Paths::host(root, run_dir), settings).await?;
    engine.stay_open();
    let server = Server::bind(engine, &listen).await?;
    for address in server.addresses() {
        eprintln!("engine: listening at {address}");
    }
    sd_notify::notify(true, &[NotifyState::Ready]).context("tell the service manager")?;
    let end = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        let _ = sd_notify::notify(true, &[NotifyState::Stopping]); // it waits in any case
    };
    server.serve(end).await;
    Ok(ExitCode::SUCCESS)
}

/// Has this process open as many files as it may: each client has one, and the usual limit of 1024 is soft.
fn allow_many_connections() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("raise the soft limit of open files to the hard one")
}
