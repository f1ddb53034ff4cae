//! `-p`, `-P` and `--expose`.

use std::collections::{BTreeMap, BTreeSet};

use engine::{ExposedPort, ParsePortError, PortMapping, parse_published};
use serde::Deserialize;

use crate::error::ApiError;

/// Where a port of the container is to be reached.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct PortBinding {
    host_ip: String,
    host_port: String,
}

/// Docker's `PortBindings`: `{"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}`. A port without any is published
/// at one that is free.
pub(super) fn published(bindings: &BTreeMap<String, Vec<PortBinding>>) -> Result<Vec<PortMapping>, ApiError> {
    let mut all = Vec::new();
    for (container, bindings) in bindings {
        let port: ExposedPort = container.parse().map_err(|e| wrong(container, e))?;
        let anywhere = [PortBinding::default()];
        let bindings = if bindings.is_empty() { &anywhere } else { bindings.as_slice() };
        for PortBinding { host_ip, host_port } in bindings {
            let text = format!("{host_ip}:{}:{port}", bare(host_port));
            all.extend(parse_published(&text).map_err(|e| wrong(host_port, e))?);
        }
    }
    Ok(all)
}

/// Docker's `ExposedPorts`: `{"80/tcp": {}}`.
pub(super) fn exposed<'a>(
    ports: impl Iterator<Item = &'a String>,
) -> Result<BTreeSet<ExposedPort>, ApiError> {
    let mut all = BTreeSet::new();
    for text in ports {
        all.extend(engine::parse_exposed(text).map_err(|e| wrong(text, e))?);
    }
    Ok(all)
}

/// Clients may write the protocol behind the host's port, too.
fn bare(port: &str) -> &str {
    port.split('/').next().unwrap_or_default()
}

fn wrong(text: &str, error: ParsePortError) -> ApiError {
    ApiError::Invalid(match error {
        ParsePortError::Address(_) | ParsePortError::Ipv6(_) | ParsePortError::Protocol(_) => {
            error.to_string()
        }
        _ => format!("invalid port specification: {:?}", bare(text)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(bindings: Value) -> Result<Vec<PortMapping>, String> {
        published(&serde_json::from_value(bindings).unwrap()).map_err(|e| e.message())
    }

    #[test]
    fn bindings_are_read() {
        let all = read(json!({
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "5353"}],
            "80/tcp": [{"HostPort": "8000-8009"}, {}],
            "81": [],
        }))
        .unwrap();
        let shown: Vec<_> =
            all.iter().map(|m| (m.container_port, m.host_ip.to_string(), m.host_ports)).collect();
        let any = || "0.0.0.0".to_owned();
        assert_eq!(
            shown,
            [
                (53, "127.0.0.1".to_owned(), Some((5353, 5353))),
                (80, any(), Some((8000, 8009))),
                (80, any(), None),
                (81, any(), None),
            ]
        );
    }

    #[test]
    fn what_is_no_port_is_refused_in_dockers_words() {
        let refused = |bindings| read(bindings).unwrap_err();
        assert_eq!(refused(json!({"x/tcp": []})), "invalid port specification: \"x\"");
        assert_eq!(refused(json!({"80/icmp": []})), "invalid proto: icmp");
        assert_eq!(refused(json!({"80": [{"HostPort": "70000"}]})), "invalid port specification: \"70000\"");
        assert_eq!(refused(json!({"80": [{"HostIp": "here"}]})), "invalid IP address: here");
    }
}
