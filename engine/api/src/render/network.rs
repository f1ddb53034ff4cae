use engine::{Network, Volume};
use serde_json::{Map, Value, json};

use super::endpoints::{endpoint_id, mac};
use super::{ZERO_TIME, time};
use crate::act::Member;

/// `networks/{id}`, with the containers that run on it.
pub(crate) fn network(network: &Network, members: &[Member]) -> Value {
    let prefix = network.subnet.prefix_len();
    let containers: Map<String, Value> = members
        .iter()
        .map(|member| {
            let endpoint = json!({
                "Name": member.name, "EndpointID": endpoint_id(member.id, network.id),
                "MacAddress": mac(member.mac, member.address),
                "IPv4Address": format!("{}/{prefix}", member.address), "IPv6Address": "",
            });
            (member.id.to_string(), endpoint)
        })
        .collect();
    json!({
        "Name": network.name,
        "Id": network.id.to_string(),
        "Created": time(Some(network.created)),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default", "Options": null,
            "Config": [pool(network)],
        },
        "Internal": network.config.internal,
        "Attachable": network.config.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": options(network),
        "Labels": network.config.labels,
    })
}

fn pool(network: &Network) -> Value {
    let config = &network.config;
    let mut pool = json!({ "Subnet": network.subnet.to_string(), "Gateway": network.gateway.to_string() });
    if let Some(range) = config.range {
        pool["IPRange"] = json!(range.to_string());
    }
    if !config.reserved.is_empty() {
        let reserved =
            config.reserved.iter().map(|(name, address)| (name.clone(), json!(address.to_string())));
        pool["AuxiliaryAddresses"] = Value::Object(reserved.collect());
    }
    pool
}

/// The default network has what Docker's has by default.
fn options(network: &Network) -> Value {
    if !network.is_default() {
        return json!(network.config.options);
    }
    json!({
        "com.docker.network.bridge.default_bridge": "true",
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.driver.mtu": "1500",
    })
}

/// The networks that are none: every Docker lists them. Their ids are fixed.
pub(crate) fn pseudo_networks() -> [Value; 2] {
    [("host", 'a'), ("none", 'b')].map(|(name, digit)| {
        json!({
            "Name": name,
            "Id": digit.to_string().repeat(64),
            "Created": ZERO_TIME,
            "Scope": "local",
            "Driver": if name == "none" { "null" } else { name },
            "EnableIPv4": true,
            "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Options": null, "Config": null },
            "Internal": false,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Containers": {},
            "Options": {},
            "Labels": {},
        })
    })
}

/// `volumes/{name}`.
pub(crate) fn volume(volume: &Volume) -> Value {
    json!({
        "CreatedAt": time(Some(volume.created)),
        "Driver": "local",
        "Labels": Some(&volume.labels).filter(|labels| !labels.is_empty()),
        "Mountpoint": volume.directory,
        "Name": volume.name,
        "Options": Some(&volume.options).filter(|options| !options.is_empty()),
        "Scope": "local",
    })
}
