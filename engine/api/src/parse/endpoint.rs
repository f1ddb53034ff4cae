//! A container's place on a network: Docker's `EndpointSettings`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use engine::EndpointConfig;
use serde::Deserialize;

use crate::error::ApiError;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Addresses,
    links: Vec<String>,
    aliases: Vec<String>,
    mac_address: String,
    driver_opts: BTreeMap<String, String>,
    gw_priority: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Addresses {
    #[serde(rename = "IPv4Address")]
    ipv4: String,
    #[serde(rename = "IPv6Address")]
    ipv6: String,
    #[serde(rename = "LinkLocalIPs")]
    link_local: Vec<String>,
}

impl Endpoint {
    pub(crate) fn on(self, network: &str) -> Result<EndpointConfig, ApiError> {
        let Addresses { ipv4, ipv6, link_local } = self.ipam_config;
        if !ipv6.is_empty() {
            return Err(ApiError::Unsupported("--ip6".to_owned()));
        }
        if !link_local.is_empty() {
            return Err(ApiError::Unsupported("--link-local-ip".to_owned()));
        }
        let invalid = || wrong(network, &format!("invalid IPv4 address: {ipv4}"));
        let address = Some(&ipv4).filter(|text| !text.is_empty());
        let address = address.map(|text| text.parse::<Ipv4Addr>().map_err(|_| invalid())).transpose()?;
        let links = self.links.iter().map(|text| link(text).map(|(name, alias)| (alias, name)));
        Ok(EndpointConfig {
            network: network.to_owned(),
            aliases: self.aliases,
            address,
            mac: mac(&self.mac_address)?,
            links: links.collect::<Result<_, _>>()?,
            priority: self.gw_priority,
            options: self.driver_opts,
        })
    }
}

/// What is wrong with the settings of an endpoint, in Docker's words.
pub(crate) fn wrong(network: &str, text: &str) -> ApiError {
    ApiError::Invalid(format!("invalid config for network {network}: invalid endpoint settings:\n{text}"))
}

/// `container[:alias]`.
pub(super) fn link(text: &str) -> Result<(String, String), ApiError> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [name] if !name.is_empty() => Ok(((*name).to_owned(), (*name).to_owned())),
        // As it is shown: `/container:/other/alias`.
        [name, alias] if !name.is_empty() && !alias.is_empty() => {
            let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
            Ok((last(name), last(alias)))
        }
        _ => Err(ApiError::Invalid(format!("bad format for links: {text}"))),
    }
}

pub(super) fn mac(text: &str) -> Result<Option<[u8; 6]>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = || ApiError::Invalid(format!("invalid MAC address: {text}"));
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2).ok_or_else(invalid)?;
        *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
    }
    if parts.next().is_some() { Err(invalid()) } else { Ok(Some(mac)) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(endpoint: Value) -> Result<EndpointConfig, String> {
        let endpoint: Endpoint = serde_json::from_value(endpoint).unwrap();
        endpoint.on("shop").map_err(|e| e.message())
    }

    #[test]
    fn settings_are_read() {
        let read = read(json!({
            "IPAMConfig": {"IPv4Address": "10.0.0.7"}, "Aliases": ["db"], "Links": ["web:www", "cache"],
            "MacAddress": "02:42:0A:00:00:07", "GwPriority": 3,
        }))
        .unwrap();
        assert_eq!(
            (read.address, read.mac),
            (Some(Ipv4Addr::new(10, 0, 0, 7)), Some([2, 0x42, 10, 0, 0, 7]))
        );
        assert_eq!(
            read.links,
            [("www", "web"), ("cache", "cache")].map(|(a, n)| (a.into(), n.into())).into()
        );
        assert_eq!((read.network.as_str(), read.priority), ("shop", 3));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |endpoint| read(endpoint).unwrap_err();
        assert!(refused(json!({"IPAMConfig": {"IPv4Address": "x"}})).ends_with("invalid IPv4 address: x"));
        assert_eq!(refused(json!({"MacAddress": "02:42"})), "invalid MAC address: 02:42");
        assert_eq!(refused(json!({"Links": [":"]})), "bad format for links: :");
    }
}
