use std::net::{IpAddr, Ipv4Addr};

use engine_image::Registries;
use engine_network::{Ipv4Net, SubnetPool};
use engine_runtime::dns::ResolvConf;
use serde::{Deserialize, Serialize};

use crate::log_driver::LogDriver;

/// How one process has the engine do what nobody says otherwise for. The defaults are Docker's.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// How registries are reached.
    pub registries: Registries,
    /// What networks are cut out of; Docker's ranges if there are none.
    pub pools: Vec<SubnetPool>,
    /// The default network's addresses, and the host's among them.
    pub bridge: Option<(Ipv4Net, Ipv4Addr)>,
    /// How containers resolve names, where their configuration does not say.
    pub dns: DnsSettings,
    /// Where containers' output goes, where their configuration does not say.
    pub logging: LogDriver,
}

/// Instead of what the host's resolv.conf says; what is empty is taken from there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsSettings {
    /// Resolvers, in order of preference.
    pub servers: Vec<IpAddr>,
    /// Domains that are tried for a short name.
    pub search: Vec<String>,
    /// Options of resolv.conf(5).
    pub options: Vec<String>,
}

impl DnsSettings {
    /// Puts this over what a host says.
    pub(crate) fn over(&self, host: ResolvConf) -> ResolvConf {
        let or = |own: &Vec<String>, other| if own.is_empty() { other } else { own.clone() };
        ResolvConf {
            nameservers: if self.servers.is_empty() { host.nameservers } else { self.servers.clone() },
            search: or(&self.search, host.search),
            options: or(&self.options, host.options),
        }
    }
}
