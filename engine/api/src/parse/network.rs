//! The body of `networks/create`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use engine::{Ipv4Net, NetworkConfig};
use serde::Deserialize;

use crate::error::ApiError;

/// Options of the bridge driver.
const MTU: &str = "com.docker.network.driver.mtu";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const HOST_IP: &str = "com.docker.network.bridge.host_binding_ipv4";
/// What those of Docker's begin with that have an effect.
const OWN: &str = "com.docker.network.";

/// As Docker's `NetworkCreateRequest`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct CreateNetwork {
    name: String,
    driver: String,
    internal: bool,
    labels: BTreeMap<String, String>,
    options: BTreeMap<String, String>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: ConfigFrom,
    scope: String,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigFrom {
    network: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    driver: String,
    config: Vec<Pool>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Pool {
    subnet: String,
    #[serde(rename = "IPRange")]
    ip_range: String,
    gateway: String,
    #[serde(alias = "AuxAddress")]
    auxiliary_addresses: BTreeMap<String, String>,
}

impl CreateNetwork {
    pub(crate) fn config(self) -> Result<NetworkConfig, ApiError> {
        if self.name.trim().is_empty() {
            return Err(ApiError::Invalid("network name cannot be empty".to_owned()));
        }
        if self.scope == "swarm" || self.driver == "overlay" || self.ingress {
            return Err(ApiError::NoSwarm);
        }
        for driver in [&self.driver, &self.ipam.driver] {
            if matches!(driver.as_str(), "host" | "null") {
                let text = format!("only one instance of \"{driver}\" network is allowed");
                return Err(ApiError::Forbidden(text));
            }
            if !matches!(driver.as_str(), "" | "bridge" | "default") {
                let text = format!("error looking up network plugin {driver}: plugin \"{driver}\" not found");
                return Err(ApiError::NotFound(text));
            }
        }
        let unsupported = [
            (self.enable_ipv6, "--ipv6"),
            (self.enable_ipv4 == Some(false), "--ipv4=false"),
            (self.config_only, "--config-only"),
            (!self.config_from.network.is_empty(), "--config-from"),
        ];
        if let Some((_, option)) = unsupported.into_iter().find(|(asked, _)| *asked) {
            return Err(ApiError::Unsupported(option.to_owned()));
        }
        let config = NetworkConfig {
            name: self.name,
            internal: self.internal,
            labels: self.labels,
            attachable: self.attachable,
            // Whoever makes a network by name trusts its containers as Docker does.
            host_access: true,
            ..NetworkConfig::default()
        };
        with_options(with_pool(config, &self.ipam.config)?, self.options)
    }
}

fn with_pool(mut config: NetworkConfig, pools: &[Pool]) -> Result<NetworkConfig, ApiError> {
    let given: Vec<&Pool> = pools.iter().filter(|pool| !pool.is_empty()).collect();
    let pool = match given.as_slice() {
        [] => return Ok(config),
        [pool] => *pool,
        _ => return Err(wrong("bridge driver doesn't support multiple subnets")),
    };
    if pool.subnet.contains(':') {
        return Err(ApiError::Unsupported("--subnet with an IPv6 address".to_owned()));
    }
    let not = |what: &str, text: &str, why: &str| wrong(&format!("invalid {what} {text}: {why}"));
    if pool.subnet.is_empty() {
        return Err(not("subnet", "", "invalid CIDR block notation"));
    }
    let block = |what: &str, text: &str| {
        let net: Ipv4Net = text.parse().map_err(|_| not(what, text, "invalid CIDR block notation"))?;
        match net.trunc() {
            whole if whole == net => Ok(net),
            whole => Err(not(what, text, &format!("it should be {whole}"))),
        }
    };
    let subnet = block("subnet", &pool.subnet)?;
    if subnet.prefix_len() > 30 {
        return Err(not("subnet", &pool.subnet, "it has no room for a gateway and a container"));
    }
    let within = |what: &str, text: &str| {
        let address: Ipv4Addr = text.parse().map_err(|_| not(what, text, "invalid address"))?;
        let outside = format!("parent subnet {subnet} doesn't contain this address");
        if subnet.contains(&address) { Ok(address) } else { Err(not(what, text, &outside)) }
    };
    if !pool.ip_range.is_empty() {
        let range = block("ip-range", &pool.ip_range)?;
        if !subnet.contains(&range) {
            return Err(not(
                "ip-range",
                &pool.ip_range,
                &format!("parent subnet {subnet} doesn't contain ip-range"),
            ));
        }
        config.range = Some(range);
    }
    if !pool.gateway.is_empty() {
        let gateway = within("gateway", &pool.gateway)?;
        if gateway == subnet.network() || gateway == subnet.broadcast() {
            return Err(not("gateway", &pool.gateway, "it is no host's address"));
        }
        config.gateway = Some(gateway);
    }
    for (name, address) in &pool.auxiliary_addresses {
        config.reserved.insert(name.clone(), within("auxiliary address", address)?);
    }
    config.subnet = Some(subnet);
    Ok(config)
}

impl Pool {
    fn is_empty(&self) -> bool {
        [&self.subnet, &self.ip_range, &self.gateway].iter().all(|text| text.is_empty())
            && self.auxiliary_addresses.is_empty()
    }
}

fn with_options(
    mut config: NetworkConfig,
    options: BTreeMap<String, String>,
) -> Result<NetworkConfig, ApiError> {
    for (name, value) in &options {
        let invalid = || ApiError::Invalid(format!("failed to parse {name} value: {value:?}"));
        let flag = || match value.as_str() {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
            _ => Err(invalid()),
        };
        match name.as_str() {
            MTU => config.mtu = Some(value.parse().map_err(|_| invalid())?).filter(|&mtu| mtu > 0),
            ICC => config.isolated = !flag()?,
            MASQUERADE => config.unmasked = !flag()?,
            HOST_IP => config.host_ip = Some(value.parse().map_err(|_| invalid())?),
            // As Docker, which minds its own options only.
            other if !other.starts_with(OWN) => {}
            other => return Err(ApiError::Unsupported(format!("--opt {other}"))),
        }
    }
    config.options = options;
    Ok(config)
}

fn wrong(text: &str) -> ApiError {
    ApiError::Invalid(format!("invalid network config:\n{text}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: Value) -> Result<NetworkConfig, String> {
        let body: CreateNetwork = serde_json::from_value(body).unwrap();
        body.config().map_err(|e| e.message())
    }

    #[test]
    fn options_reach_the_configuration() {
        let config = read(json!({
            "Name": "shop", "Internal": true,
            "IPAM": {"Config": [{
                "Subnet": "10.1.0.0/24", "IPRange": "10.1.0.128/25", "Gateway": "10.1.0.254",
                "AuxiliaryAddresses": {"router": "10.1.0.129"},
            }]},
            "Options": {MTU: "1400", ICC: "false", MASQUERADE: "0", HOST_IP: "127.0.0.1", "mine": "x"},
        }))
        .unwrap();
        assert_eq!(config.subnet, Some("10.1.0.0/24".parse().unwrap()));
        assert_eq!(config.range, Some("10.1.0.128/25".parse().unwrap()));
        assert_eq!(config.gateway, Some(Ipv4Addr::new(10, 1, 0, 254)));
        assert_eq!(config.reserved["router"], Ipv4Addr::new(10, 1, 0, 129));
        assert_eq!((config.mtu, config.isolated, config.unmasked), (Some(1400), true, true));
        assert_eq!((config.host_ip, config.options["mine"].as_str()), (Some(Ipv4Addr::LOCALHOST), "x"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_dockers_words() {
        let pool = |pool: Value| read(json!({"Name": "x", "IPAM": {"Config": [pool]}})).unwrap_err();
        let wrong = |text: &str| format!("invalid network config:\n{text}");
        assert_eq!(pool(json!({"Subnet": "x"})), wrong("invalid subnet x: invalid CIDR block notation"));
        assert_eq!(
            pool(json!({"Subnet": "10.1.0.9/24"})),
            wrong("invalid subnet 10.1.0.9/24: it should be 10.1.0.0/24")
        );
        assert_eq!(
            pool(json!({"Subnet": "10.1.0.0/24", "Gateway": "10.2.0.1"})),
            wrong("invalid gateway 10.2.0.1: parent subnet 10.1.0.0/24 doesn't contain this address")
        );
        assert!(
            pool(json!({"Subnet": "10.1.0.0/24", "IPRange": "10.2.0.0/25"}))
                .contains("doesn't contain ip-range")
        );
        assert!(
            read(json!({"Name": "x", "Options": {ICC: "maybe"}})).unwrap_err().contains("failed to parse")
        );
        assert!(
            read(json!({"Name": "x", "Driver": "macvlan"}))
                .unwrap_err()
                .contains("plugin \"macvlan\" not found")
        );
        assert!(read(json!({"Name": " "})).unwrap_err().contains("cannot be empty"));
        let bridge = json!({"Name": "x", "Options": {"com.docker.network.bridge.name": "br9"}});
        assert!(read(bridge).unwrap_err().contains("is not supported"));
    }
}
