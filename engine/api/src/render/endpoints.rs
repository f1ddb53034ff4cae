//! `NetworkSettings`.

use std::collections::BTreeMap;

use engine::Container;
use serde_json::{Map, Value, json};

use crate::act::{Seen, network_mode};
use crate::parse::Version;

pub(super) fn network_settings(seen: &Seen, version: Version) -> Value {
    let networks = networks(seen, version);
    // The default network's values stand here as well; they went with 1.52.
    let bridge = networks.get("bridge").cloned().unwrap_or(Value::Null);
    let of = |name: &str, empty: Value| bridge.get(name).cloned().unwrap_or(empty);
    json!({
        "Bridge": "",
        "SandboxID": "",
        "SandboxKey": "",
        "Ports": ports(&seen.container),
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": of("EndpointID", json!("")),
        "Gateway": of("Gateway", json!("")),
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": of("IPAddress", json!("")),
        "IPPrefixLen": of("IPPrefixLen", json!(0)),
        "IPv6Gateway": "",
        "MacAddress": of("MacAddress", json!("")),
        "Networks": networks,
    })
}

pub(super) fn networks(seen: &Seen, version: Version) -> Map<String, Value> {
    let mut endpoint = json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": null,
        "MacAddress": "",
        "DriverOpts": null,
        "NetworkID": "",
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
    });
    let Some(attached) = &seen.network else {
        return Map::from_iter([(network_mode(&seen.container.config), endpoint)]);
    };
    endpoint["NetworkID"] = json!(attached.network.id.to_string());
    if !attached.aliases.is_empty() {
        endpoint["Aliases"] = json!(attached.aliases);
    }
    // As Docker, which keeps no address for a container that does not run.
    if let Some(address) = attached.address.filter(|_| seen.container.running) {
        endpoint["EndpointID"] = json!(seen.container.id.to_string());
        endpoint["Gateway"] = json!(attached.network.gateway.to_string());
        endpoint["IPAddress"] = json!(address.to_string());
        endpoint["IPPrefixLen"] = json!(attached.network.subnet.prefix_len());
    }
    if version >= Version(1, 44) {
        let own = [seen.container.name.clone(), seen.container.id.short()];
        let names: Vec<&String> = own.iter().chain(&attached.aliases).collect();
        endpoint["DNSNames"] = if attached.network.name == "bridge" { Value::Null } else { json!(names) };
    }
    Map::from_iter([(attached.network.name.clone(), endpoint)])
}

/// The published ports of a container that runs, and those that it serves besides.
fn ports(container: &Container) -> Value {
    if !container.running {
        return json!({});
    }
    let mut ports: BTreeMap<String, Option<Vec<Value>>> =
        container.config.exposed.iter().map(|port| (port.to_string(), None)).collect();
    for port in &container.ports {
        let binding = json!({ "HostIp": port.host_ip.to_string(), "HostPort": port.host_port.to_string() });
        let key = format!("{}/{}", port.container_port, port.protocol);
        ports.entry(key).or_default().get_or_insert_default().push(binding);
    }
    json!(ports)
}
