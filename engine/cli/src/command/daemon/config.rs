//! The daemon's options: flags, and the file `daemon.json` with dockerd's keys.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use engine::image::Registries;
use engine::{DnsSettings, Ipv4Net, LogDriver, Settings, SubnetPool};
use engine_api::{Address, Listen, Tls};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Args;

/// Read if it is there.
pub(super) const DEFAULT_FILE: &str = "/etc/lighter/daemon.json";
/// Where Docker's certificates are by custom, in the home directory.
const CERTIFICATES: &str = ".docker";

/// What a daemon is to do, as dockerd's configuration file names it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Options {
    hosts: Vec<String>,
    pub(super) data_root: Option<PathBuf>,
    pub(super) exec_root: Option<PathBuf>,
    debug: Option<bool>,
    tls: Option<bool>,
    tlsverify: Option<bool>,
    tlscacert: Option<PathBuf>,
    tlscert: Option<PathBuf>,
    tlskey: Option<PathBuf>,
    registry_mirrors: Vec<String>,
    insecure_registries: Vec<String>,
    bip: Option<String>,
    default_address_pools: Vec<Pool>,
    dns: Vec<IpAddr>,
    dns_opts: Vec<String>,
    dns_search: Vec<String>,
    log_driver: Option<String>,
    log_opts: BTreeMap<String, String>,
    /// The keys that were given, for whoever looks for conflicts.
    #[serde(skip)]
    given: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pool {
    base: Ipv4Net,
    size: u8,
}

impl Options {
    /// Reads a file; if it is absent that is an error where it `must` be there.
    pub(super) fn read(path: &Path, must: bool) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must => return Ok(Self::default()),
            text => text.with_context(|| unusable(path))?,
        };
        Self::parse(&text).with_context(|| unusable(path))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let members: Map<String, Value> = serde_json::from_str(text)?;
        let given = members.keys().cloned().collect();
        let options: Self = serde_json::from_value(Value::Object(members))?;
        Ok(Self { given, ..options })
    }

    pub(super) fn of_flags(args: Args) -> anyhow::Result<Self> {
        let pools = args.default_address_pool.iter().map(|text| pool(text)).collect::<anyhow::Result<_>>()?;
        let log_opts = args.log_opt.iter().map(|text| {
            let pair = text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            pair.with_context(|| format!("invalid --log-opt {text:?}: expected NAME=VALUE"))
        });
        let mut options = Self {
            hosts: args.host.iter().map(Address::to_string).collect(),
            data_root: args.data_root,
            exec_root: args.exec_root,
            debug: args.debug.then_some(true),
            tls: args.tls,
            tlsverify: args.tlsverify,
            tlscacert: args.tlscacert,
            tlscert: args.tlscert,
            tlskey: args.tlskey,
            registry_mirrors: args.registry_mirror,
            insecure_registries: args.insecure_registry,
            bip: args.bip,
            default_address_pools: pools,
            dns: args.dns,
            dns_opts: args.dns_opt,
            dns_search: args.dns_search,
            log_driver: args.log_driver,
            log_opts: log_opts.collect::<anyhow::Result<_>>()?,
            given: Vec::new(),
        };
        let given = [
            ("hosts", !options.hosts.is_empty()),
            ("data-root", options.data_root.is_some()),
            ("exec-root", options.exec_root.is_some()),
            ("debug", options.debug.is_some()),
            ("tls", options.tls.is_some()),
            ("tlsverify", options.tlsverify.is_some()),
            ("tlscacert", options.tlscacert.is_some()),
            ("tlscert", options.tlscert.is_some()),
            ("tlskey", options.tlskey.is_some()),
            ("registry-mirrors", !options.registry_mirrors.is_empty()),
            ("insecure-registries", !options.insecure_registries.is_empty()),
            ("bip", options.bip.is_some()),
            ("default-address-pools", !options.default_address_pools.is_empty()),
            ("dns", !options.dns.is_empty()),
            ("dns-opts", !options.dns_opts.is_empty()),
            ("dns-search", !options.dns_search.is_empty()),
            ("log-driver", options.log_driver.is_some()),
            ("log-opts", !options.log_opts.is_empty()),
        ];
        options.given =
            given.into_iter().filter(|(_, given)| *given).map(|(name, _)| name.to_owned()).collect();
        Ok(options)
    }

    /// Flags and file together; what both say, neither says, as dockerd has it.
    pub(super) fn with_file(self, file: Self, path: &Path) -> anyhow::Result<Self> {
        let both: Vec<&str> =
            self.given.iter().filter(|name| file.given.contains(name)).map(String::as_str).collect();
        ensure!(
            both.is_empty(),
            "{}: the following directives are specified both as a flag and in the configuration file: {}",
            unusable(path),
            both.join(", ")
        );
        let list = |own: Vec<String>, other| if own.is_empty() { other } else { own };
        Ok(Self {
            hosts: list(self.hosts, file.hosts),
            data_root: self.data_root.or(file.data_root),
            exec_root: self.exec_root.or(file.exec_root),
            debug: self.debug.or(file.debug),
            tls: self.tls.or(file.tls),
            tlsverify: self.tlsverify.or(file.tlsverify),
            tlscacert: self.tlscacert.or(file.tlscacert),
            tlscert: self.tlscert.or(file.tlscert),
            tlskey: self.tlskey.or(file.tlskey),
            registry_mirrors: list(self.registry_mirrors, file.registry_mirrors),
            insecure_registries: list(self.insecure_registries, file.insecure_registries),
            bip: self.bip.or(file.bip),
            default_address_pools: if self.default_address_pools.is_empty() {
                file.default_address_pools
            } else {
                self.default_address_pools
            },
            dns: if self.dns.is_empty() { file.dns } else { self.dns },
            dns_opts: list(self.dns_opts, file.dns_opts),
            dns_search: list(self.dns_search, file.dns_search),
            log_driver: self.log_driver.or(file.log_driver),
            log_opts: if self.log_opts.is_empty() { file.log_opts } else { self.log_opts },
            given: Vec::new(),
        })
    }

    /// Whether more is to be told.
    pub(super) fn debug(&self) -> bool {
        self.debug == Some(true)
    }

    /// Where and how to listen: at `docker.sock` in the run directory if nobody says.
    pub(super) fn listen(&self, run: &Path) -> anyhow::Result<Listen> {
        let run = self.exec_root.as_deref().unwrap_or(run);
        let addresses = if self.hosts.is_empty() {
            vec![Address::Unix(run.join("docker.sock"))]
        } else {
            self.hosts.iter().map(|text| Ok(text.parse()?)).collect::<anyhow::Result<_>>()?
        };
        let verify = self.tlsverify == Some(true);
        let tls = if self.tls == Some(true) || verify {
            let file = |given: &Option<PathBuf>, name: &str| match (given, std::env::home_dir()) {
                (Some(path), _) => Ok(path.clone()),
                (None, Some(home)) => Ok(home.join(CERTIFICATES).join(name)),
                (None, None) => bail!("there is no home directory: say where the TLS files are, see --help"),
            };
            let client_authority = verify.then(|| file(&self.tlscacert, "ca.pem")).transpose()?;
            let (certificate, key) = (file(&self.tlscert, "cert.pem")?, file(&self.tlskey, "key.pem")?);
            Some(Tls { certificate, key, client_authority })
        } else {
            None
        };
        Ok(Listen { addresses, tls, plain: self.tls == Some(false) || self.tlsverify == Some(false) })
    }

    /// What the engine does where nobody says otherwise.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        let mut registries =
            Registries { insecure: self.insecure_registries.clone(), ..Registries::default() };
        if !self.registry_mirrors.is_empty() {
            registries.mirrors.insert("docker.io".to_owned(), self.registry_mirrors.clone());
        }
        let pools = self.default_address_pools.iter().map(|pool| {
            ensure!(
                pool.size >= pool.base.prefix_len() && pool.size <= 30,
                "invalid default address pool {}: the size must be between {} and 30, not {}",
                pool.base,
                pool.base.prefix_len(),
                pool.size
            );
            Ok(SubnetPool { base: pool.base, size: pool.size })
        });
        let dns = DnsSettings {
            servers: self.dns.clone(),
            search: self.dns_search.clone(),
            options: self.dns_opts.clone(),
        };
        Ok(Settings {
            registries,
            pools: pools.collect::<anyhow::Result<_>>()?,
            bridge: self.bip.as_deref().map(bridge).transpose()?,
            dns,
            logging: LogDriver::new(
                self.log_driver.as_deref().unwrap_or("json-file"),
                self.log_opts.clone(),
            )?,
        })
    }
}

fn unusable(path: &Path) -> String {
    format!("unable to configure the daemon with file {}", path.display())
}

/// `base=10.0.0.0/8,size=24`
fn pool(text: &str) -> anyhow::Result<Pool> {
    let invalid = || format!("invalid --default-address-pool {text:?}: expected base=NETWORK,size=LENGTH");
    let (mut base, mut size) = (None, None);
    for (name, value) in text.split(',').filter_map(|part| part.split_once('=')) {
        match name {
            "base" => base = Some(value.parse().with_context(invalid)?),
            "size" => size = Some(value.parse().with_context(invalid)?),
            _ => bail!(invalid()),
        }
    }
    Ok(Pool { base: base.with_context(invalid)?, size: size.with_context(invalid)? })
}

/// The host's address and its subnet.
fn bridge(text: &str) -> anyhow::Result<(Ipv4Net, std::net::Ipv4Addr)> {
    let net: Ipv4Net =
        text.parse().with_context(|| format!("invalid --bip {text:?}: expected ADDRESS/LENGTH"))?;
    let (address, subnet) = (net.addr(), net.trunc());
    ensure!(
        address != subnet.network() && address != subnet.broadcast() && subnet.prefix_len() <= 30,
        "invalid --bip {text:?}: {address} is no host's address in {subnet}"
    );
    Ok((subnet, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_dockerds_says() {
        let text = r#"{"hosts": ["tcp://127.0.0.1:2375"], "registry-mirrors": ["http://mirror:5000"],
            "default-address-pools": [{"base": "10.9.0.0/16", "size": 24}], "dns": ["10.0.0.2"],
            "log-driver": "local", "log-opts": {"max-size": "10m"}, "bip": "192.168.5.1/24"}"#;
        let options = Options::parse(text).unwrap();
        let settings = options.settings().unwrap();
        assert_eq!(settings.registries.mirrors["docker.io"], ["http://mirror:5000"]);
        assert_eq!(settings.pools[0].size, 24);
        let (subnet, host) = settings.bridge.unwrap();
        assert_eq!((subnet.to_string(), host.to_string()), ("192.168.5.0/24".into(), "192.168.5.1".into()));
        let listen = options.listen(Path::new("/run/x")).unwrap();
        assert_eq!(listen.addresses[0].to_string(), "tcp://127.0.0.1:2375");
        let default = Options::parse("").unwrap().listen(Path::new("/run/x")).unwrap();
        assert_eq!(default.addresses[0].to_string(), "unix:///run/x/docker.sock");
    }

    #[test]
    fn mistakes_are_named() {
        let says = |text: &str| format!("{:#}", Options::parse(text).unwrap_err());
        assert!(says(r#"{"hots": []}"#).contains("unknown field `hots`"), "{}", says(r#"{"hots": []}"#));
        assert!(says("{").contains("EOF"));
        let flags = Options { given: vec!["hosts".to_owned()], ..Options::default() };
        let file = Options::parse(r#"{"hosts": []}"#).unwrap();
        let both = flags.with_file(file, Path::new("/etc/x")).unwrap_err().to_string();
        assert!(both.ends_with("both as a flag and in the configuration file: hosts"), "{both}");
        for bad in ["10.0.0.0/24", "10.0.0.1", "10.0.0.255/24"] {
            assert!(bridge(bad).is_err(), "{bad}");
        }
        assert!(pool("base=10.0.0.0/8").is_err());
        let narrow = Options {
            default_address_pools: vec![pool("base=10.0.0.0/24,size=16").unwrap()],
            ..Options::default()
        };
        assert!(narrow.settings().unwrap_err().to_string().contains("must be between 24 and 30"));
    }
}
