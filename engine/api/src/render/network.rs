use std::net::Ipv4Addr;

use engine::{Network, Volume};
use engine_types::ContainerId;
use serde_json::{Map, Value, json};

use super::{ZERO_TIME, time};

/// `networks/{id}`, with the containers that run on it.
pub(crate) fn network(network: &Network, members: &[(ContainerId, String, Ipv4Addr)]) -> Value {
    let prefix = network.subnet.prefix_len();
    let containers: Map<String, Value> = members
        .iter()
        .map(|(id, name, address)| {
            let endpoint = json!({
                "Name": name, "EndpointID": id.to_string(), "MacAddress": "",
                "IPv4Address": format!("{address}/{prefix}"), "IPv6Address": "",
            });
            (id.to_string(), endpoint)
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
            "Config": [{ "Subnet": network.subnet.to_string(), "Gateway": network.gateway.to_string() }],
        },
        "Internal": network.config.internal,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": {},
        "Labels": network.config.labels,
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
        "Options": null,
        "Scope": "local",
    })
}
