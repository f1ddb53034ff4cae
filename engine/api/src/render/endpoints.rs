//! `NetworkSettings`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use engine::{Container, EndpointConfig, NetworkMode};
use engine_types::{ContainerId, NetworkId};
use serde_json::{Map, Value, json};

use crate::act::{Attached, Seen, network_mode};
use crate::parse::Version;

pub(super) fn network_settings(seen: &Seen, version: Version) -> Value {
    let networks = networks(seen, version);
    // The default network's values stand here as well; they went with 1.52.
    let bridge = networks.get("bridge").cloned().unwrap_or(Value::Null);
    let of = |name: &str, empty: Value| bridge.get(name).cloned().unwrap_or(empty);
    let pid = seen.container.state.as_ref().and_then(|state| state.pid).filter(|_| seen.container.running);
    json!({
        "Bridge": "",
        "SandboxID": pid.map(|_| seen.container.id.to_string()).unwrap_or_default(),
        "SandboxKey": pid.map(|pid| format!("/proc/{pid}/ns/net")).unwrap_or_default(),
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
    if seen.networks.is_empty() {
        return match seen.container.config.network {
            // What it shares is shown there alone.
            NetworkMode::Container(_) | NetworkMode::Network { .. } => Map::new(),
            NetworkMode::None | NetworkMode::Host => {
                let unconnected = Attached {
                    name: network_mode(&seen.container.config),
                    network: None,
                    address: None,
                    endpoint: EndpointConfig::default(),
                };
                Map::from_iter([(unconnected.name.clone(), endpoint(seen, &unconnected, version))])
            }
        };
    }
    let all = seen.networks.iter().map(|attached| (attached.name.clone(), endpoint(seen, attached, version)));
    all.collect()
}

fn endpoint(seen: &Seen, attached: &Attached, version: Version) -> Value {
    let Attached { network, endpoint, .. } = attached;
    let container = &seen.container;
    let asked = endpoint.address.map(|address| json!({ "IPv4Address": address.to_string() }));
    let links: Vec<String> = endpoint.links.iter().map(|(alias, name)| format!("{name}:{alias}")).collect();
    let mut aliases = endpoint.aliases.clone();
    // Up to 1.44 the short id counted as one.
    if version < Version(1, 45) && network.as_ref().is_some_and(|network| !network.is_default()) {
        aliases.push(container.id.short());
    }
    let mut value = json!({
        "IPAMConfig": asked,
        "Links": Some(links).filter(|links| !links.is_empty()),
        "Aliases": Some(aliases).filter(|aliases| !aliases.is_empty()),
        "MacAddress": endpoint.mac.map(hardware_address).unwrap_or_default(),
        "DriverOpts": Some(&endpoint.options).filter(|options| !options.is_empty()),
        "NetworkID": network.as_ref().map(|network| network.id.to_string()).unwrap_or_default(),
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
    });
    // As Docker, which keeps no address for a container that does not run.
    let place = network.as_ref().zip(attached.address).filter(|_| container.running);
    if let Some((network, address)) = place {
        value["EndpointID"] = json!(endpoint_id(container.id, network.id));
        value["Gateway"] = json!(network.gateway.to_string());
        value["IPAddress"] = json!(address.to_string());
        value["IPPrefixLen"] = json!(network.subnet.prefix_len());
        value["MacAddress"] = json!(mac(endpoint.mac, address));
    }
    if version >= Version(1, 44) {
        let own = [container.name.clone(), container.id.short()];
        let names: Vec<&String> =
            own.iter().chain(&endpoint.aliases).chain(&container.config.hostname).collect();
        let named = network.as_ref().is_some_and(|network| !network.is_default());
        value["DNSNames"] = if named { json!(names) } else { Value::Null };
    }
    if version >= Version(1, 48) {
        value["GwPriority"] = json!(endpoint.priority);
    }
    value
}

/// Half of either's digits name both.
pub(super) fn endpoint_id(container: ContainerId, network: NetworkId) -> String {
    let half = |id: String| id[..id.len() / 2].to_owned();
    half(container.to_string()) + &half(network.to_string())
}

/// A container's hardware address on a network: that which it asked for, or Docker's for its address.
pub(super) fn mac(asked: Option<[u8; 6]>, address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    hardware_address(asked.unwrap_or([0x02, 0x42, a, b, c, d]))
}

fn hardware_address(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
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
