//! What a container is to be connected to.

use std::collections::BTreeMap;

use engine::{EndpointConfig, NetworkMode};

use super::endpoint::{Endpoint, link, mac, wrong};
use super::host_config::HostConfig;
use super::version::Version;
use crate::error::ApiError;

/// Docker's name for the network of containers that ask for none in particular.
const DEFAULT: &str = "bridge";

/// What a container asks for beside its host's part.
pub(super) struct Asked<'a> {
    pub(super) hostname: bool,
    pub(super) exposes: bool,
    /// It is to have no network at all.
    pub(super) disabled: bool,
    pub(super) mac: &'a str,
}

#[derive(Debug)]
pub(super) struct Networking {
    pub(super) mode: NetworkMode,
    pub(super) endpoints: Option<Vec<EndpointConfig>>,
    /// The container whose network is shared, by its id or name.
    pub(super) shared: Option<String>,
    /// Containers on the default network that it is told of.
    pub(super) links: Vec<(String, String)>,
}

/// All networks, that of the mode first.
pub(super) fn networking(
    host: &HostConfig,
    asked: &Asked<'_>,
    mut endpoints: BTreeMap<String, Endpoint>,
    version: Version,
) -> Result<Networking, ApiError> {
    if version < Version(1, 44) && endpoints.len() > 1 {
        let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
        let text = format!("Container cannot be connected to network endpoints: {}", names.join(", "));
        return Err(ApiError::Invalid(text));
    }
    let links: Vec<(String, String)> = host.links.iter().map(|text| link(text)).collect::<Result<_, _>>()?;
    // Clients may call the default network by either name.
    if let Some(endpoint) = endpoints.remove("default") {
        endpoints.entry(DEFAULT.to_owned()).or_insert(endpoint);
    }
    let named = match (host.network_mode.as_str(), endpoints.keys().next()) {
        ("" | "default", Some(first)) if endpoints.len() == 1 => first.clone(),
        ("" | "default", _) => DEFAULT.to_owned(),
        (name, _) => name.to_owned(),
    };
    let mode = if asked.disabled { "none".to_owned() } else { named };
    check(host, asked, &mode, &links)?;
    let alone = |mode, shared| Networking { mode, endpoints: None, shared, links: Vec::new() };
    match mode.as_str() {
        "none" => return Ok(alone(NetworkMode::None, None)),
        "host" => return Ok(alone(NetworkMode::Host, None)),
        other => {
            if let Some(name) = other.strip_prefix("container:") {
                if name.is_empty() {
                    let text = "Invalid network mode: invalid container format container:<name|id>";
                    return Err(ApiError::Invalid(text.to_owned()));
                }
                // Which it is, is found out where containers are known.
                return Ok(alone(NetworkMode::None, Some(name.to_owned())));
            }
        }
    }
    let mut first = endpoints.remove(&mode).unwrap_or_default().on(&mode)?;
    first.mac = first.mac.or(mac(asked.mac)?);
    check_default(&first)?;
    let (mut all, mut told) = (Vec::new(), Vec::new());
    if mode == DEFAULT {
        told = links;
    } else {
        first.links.extend(links.into_iter().map(|(name, alias)| (alias, name)));
    }
    let aliases = first.aliases.clone();
    all.push(first);
    for (name, endpoint) in endpoints {
        let endpoint = endpoint.on(&name)?;
        check_default(&endpoint)?;
        all.push(endpoint);
    }
    Ok(Networking {
        mode: NetworkMode::Network { network: mode, aliases },
        endpoints: Some(all),
        shared: None,
        links: told,
    })
}

/// The default network resolves no names, and chooses addresses itself.
pub(crate) fn check_default(endpoint: &EndpointConfig) -> Result<(), ApiError> {
    if endpoint.network != DEFAULT {
        return Ok(());
    }
    if endpoint.address.is_some() {
        return Err(wrong(DEFAULT, "user specified IP address is supported on user defined networks only"));
    }
    if !endpoint.aliases.is_empty() {
        return Err(wrong(DEFAULT, "network-scoped aliases are only supported for user-defined networks"));
    }
    Ok(())
}

fn check(
    host: &HostConfig,
    asked: &Asked<'_>,
    mode: &str,
    links: &[(String, String)],
) -> Result<(), ApiError> {
    let (is_container, is_host) = (mode.starts_with("container:"), mode == "host");
    let undefined = "This would result in undefined behavior";
    let conflicts = [
        (is_container && asked.hostname, "hostname and the network mode".to_owned()),
        (
            is_container && !links.is_empty(),
            format!("container type network can't be used with links. {undefined}"),
        ),
        (is_host && !links.is_empty(), format!("host type networking can't be used with links. {undefined}")),
        (is_container && !host.dns.is_empty(), "dns and the network mode".to_owned()),
        (
            is_container && !host.extra_hosts.is_empty(),
            "custom host-to-IP mapping and the network mode".to_owned(),
        ),
        ((is_container || is_host) && !asked.mac.is_empty(), "mac-address and the network mode".to_owned()),
        (
            is_container && (!host.port_bindings.is_empty() || host.publish_all_ports),
            "port publishing and the container type network mode".to_owned(),
        ),
        (is_container && asked.exposes, "port exposing and the container type network mode".to_owned()),
        (host.uts_mode == "host" && asked.hostname, "hostname and the UTS mode".to_owned()),
    ];
    match conflicts.into_iter().find(|(conflict, _)| *conflict) {
        Some((_, text)) => Err(ApiError::Invalid(format!("conflicting options: {text}"))),
        None => Ok(()),
    }
}
