use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::csv;

/// What `-p` and `--expose` ask for: `PortBindings` and `ExposedPorts`.
#[derive(Debug, Default)]
pub(super) struct Ports {
    bindings: BTreeMap<String, Vec<Value>>,
    exposed: Map<String, Value>,
}

impl Ports {
    /// Reads `[[address:][port or range]:]port or range[/protocol]`, or `target=…,published=…,protocol=…`.
    pub(super) fn publish(&mut self, text: &str) -> Result<(), String> {
        if text.contains('=') {
            return self.publish_long(text);
        }
        let (address, host, container) = split(text)?;
        let (container, protocol) = protocol(container)?;
        if container.is_empty() {
            return Err(format!("no port specified: {text}<empty>"));
        }
        if !address.is_empty() {
            let plain = address.trim_start_matches('[').trim_end_matches(']');
            plain.parse::<IpAddr>().map_err(|_| format!("invalid IP address: {address}"))?;
        }
        let (first, last) = range(container).map_err(|()| format!("invalid containerPort: {container}"))?;
        let host_range = match host {
            "" => None,
            _ => Some(range(host).map_err(|()| format!("invalid hostPort: {host}"))?),
        };
        if let Some((from, to)) = host_range
            && to - from != last - first
            // One port of a container may have any of a range.
            && first != last
        {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {container} and {host}"
            ));
        }
        for port in first..=last {
            let host_port = match host_range {
                None => String::new(),
                Some((from, to)) if first == last && from != to => format!("{from}-{to}"),
                Some((from, _)) => (from + port - first).to_string(),
            };
            self.bind(port, protocol, address, &host_port);
        }
        Ok(())
    }

    fn publish_long(&mut self, text: &str) -> Result<(), String> {
        let (mut target, mut published, mut kind) = (String::new(), String::new(), "tcp".to_owned());
        for field in csv::fields(text)? {
            match field.split_once('=') {
                Some(("target", value)) => target = value.to_owned(),
                Some(("published", value)) => published = value.to_owned(),
                Some(("protocol", value)) => kind = value.to_owned(),
                Some((key, _)) if !key.is_empty() => {}
                _ => {
                    return Err(format!(
                        "invalid publish opts format (should be name=value but got '{field}')"
                    ));
                }
            }
        }
        self.publish(&format!("{published}:{target}/{kind}"))
    }

    fn bind(&mut self, port: u16, protocol: &str, address: &str, host_port: &str) {
        let name = format!("{port}/{protocol}");
        let address = address.trim_start_matches('[').trim_end_matches(']');
        self.exposed.insert(name.clone(), json!({}));
        self.bindings.entry(name).or_default().push(json!({ "HostIp": address, "HostPort": host_port }));
    }

    /// Reads `port or range[/protocol]`.
    pub(super) fn expose(&mut self, text: &str) -> Result<(), String> {
        if text.contains(':') {
            return Err(format!("invalid port format for --expose: {text}"));
        }
        let (ports, protocol) = protocol(text)?;
        let invalid = |()| format!("invalid range format for --expose: {text}, error: invalid port: {ports}");
        let (first, last) = range(ports).map_err(invalid)?;
        for port in first..=last {
            self.exposed.insert(format!("{port}/{protocol}"), json!({}));
        }
        Ok(())
    }

    pub(super) fn bindings(&self) -> Value {
        json!(self.bindings)
    }

    pub(super) fn exposed(&self) -> Value {
        Value::Object(self.exposed.clone())
    }
}

/// The address, the host's ports and the container's.
fn split(text: &str) -> Result<(&str, &str, &str), String> {
    let Some((rest, container)) = text.rsplit_once(':') else { return Ok(("", "", text)) };
    match rest.rsplit_once(':') {
        // Without brackets every colon but two is of an address.
        Some((address, host)) if !host.ends_with(']') => Ok((address, host, container)),
        _ => Ok(("", rest, container)),
    }
}

fn protocol(text: &str) -> Result<(&str, &str), String> {
    match text.split_once('/') {
        None => Ok((text, "tcp")),
        Some((ports, kind)) => {
            match ["tcp", "udp", "sctp"].into_iter().find(|k| k.eq_ignore_ascii_case(kind)) {
                Some(kind) => Ok((ports, kind)),
                None => Err(format!("invalid proto: {kind}")),
            }
        }
    }
}

fn range(text: &str) -> Result<(u16, u16), ()> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse().map_err(drop)?, last.parse().map_err(drop)?) {
        (first, last) if first <= last => Ok((first, last)),
        _ => Err(()),
    }
}
