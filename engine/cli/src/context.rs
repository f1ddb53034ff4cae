//! What every command has: the daemon and the configuration file.

use std::path::PathBuf;

use crate::client::{Address, Client, ClientError, Tls};
use crate::config::Config;

/// Where the daemon listens unless something else is said.
pub(crate) const DEFAULT_HOST: &str = "unix:///run/lighter/docker.sock";

/// The options before the command.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct GlobalOptions {
    /// Daemon socket to connect to
    #[arg(short = 'H', long, value_name = "string", env = "DOCKER_HOST", hide_env = true)]
    host: Option<String>,
    /// Location of client config files
    #[arg(long, value_name = "string")]
    config: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    debug: bool,
    /// Set the logging level ("debug", "info", "warn", "error", "fatal")
    #[arg(short = 'l', long, value_name = "string", default_value = "info")]
    log_level: String,
    /// Use TLS; implied by --tlsverify
    #[arg(long)]
    tls: bool,
    /// Use TLS and verify the remote
    #[arg(long)]
    tlsverify: bool,
    /// Trust certs signed only by this CA
    #[arg(long, value_name = "string")]
    tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long, value_name = "string")]
    tlscert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long, value_name = "string")]
    tlskey: Option<PathBuf>,
}

/// What a command talks to.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) config: Config,
}

impl Context {
    pub(crate) fn new(options: &GlobalOptions) -> Result<Self, ClientError> {
        let config = Config::load(options.config.as_deref());
        let host = options.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(DEFAULT_HOST);
        let address = Address::parse(host, options.tls(&config))?;
        let client = Client::new(address, config.headers());
        Ok(Self { client, config })
    }

    /// The proxies that containers of this daemon are to know.
    pub(crate) fn proxies(&self) -> Vec<String> {
        self.config.proxies(&self.client.address().to_string())
    }
}

impl GlobalOptions {
    /// What TLS is to use, with the names of the files as Docker has them by default.
    fn tls(&self, config: &Config) -> Option<Tls> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let verify = self.tlsverify || set("DOCKER_TLS_VERIFY").is_some();
        if !verify && !self.tls && set("DOCKER_TLS").is_none() {
            return None;
        }
        let beside = config.path().parent().map(PathBuf::from).unwrap_or_default();
        let directory = set("DOCKER_CERT_PATH").map_or(beside, PathBuf::from);
        let file = |given: &Option<PathBuf>, name: &str| {
            given.clone().or_else(|| Some(directory.join(name)).filter(|path| path.exists()))
        };
        Some(Tls {
            verify,
            authority: file(&self.tlscacert, "ca.pem"),
            certificate: file(&self.tlscert, "cert.pem"),
            key: file(&self.tlskey, "key.pem"),
        })
    }
}
