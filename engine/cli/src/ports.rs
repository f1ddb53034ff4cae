//! The PORTS column: ports in a row that have the same number on both sides are one entry, as Docker prints it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use engine::{Container, Protocol};

/// A port of a container with its address and port on the host, if it is published; in the column's order.
type Entry = (u16, Option<Ipv4Addr>, u16, Protocol);

/// Ports of one protocol at one address.
type Group = (Option<Ipv4Addr>, Protocol);

pub(crate) fn column(container: &Container) -> String {
    if !container.running {
        return String::new();
    }
    let is_published = |port: u16, protocol: Protocol| {
        container.ports.iter().any(|p| (p.container_port, p.protocol) == (port, protocol))
    };
    let published =
        container.ports.iter().map(|p| (p.container_port, Some(p.host_ip), p.host_port, p.protocol));
    let exposed = container.config.exposed.iter().filter(|e| !is_published(e.port, e.protocol));
    render(published.chain(exposed.map(|e| (e.port, None, 0, e.protocol))).collect())
}

fn render(mut entries: Vec<Entry>) -> String {
    // Addresses are compared as texts, as Docker's are; none is the first.
    entries.sort_by_key(|&(port, host, host_port, protocol)| {
        (port, host.map(|host| host.to_string()), host_port, protocol.to_string())
    });
    let mut open: BTreeMap<usize, (Group, u16, u16)> = BTreeMap::new();
    let (mut closed, mut singles) = (Vec::new(), Vec::new());
    for (port, host, host_port, protocol) in entries {
        if let Some(host) = host.filter(|_| host_port != port) {
            singles.push(format!("{host}:{host_port}->{port}/{protocol}"));
            continue;
        }
        let group = (host, protocol);
        let next = open.len();
        let (_, first, last) = match open.values_mut().find(|(other, ..)| *other == group) {
            Some(open) => open,
            None => {
                open.insert(next, (group, port, port));
                continue;
            }
        };
        if last.checked_add(1) == Some(port) {
            *last = port;
        } else {
            closed.push(range(group, *first, *last));
            (*first, *last) = (port, port);
        }
    }
    closed.extend(open.into_values().map(|(group, first, last)| range(group, first, last)));
    closed.extend(singles);
    closed.join(", ")
}

fn range((host, protocol): Group, first: u16, last: u16) -> String {
    let ports = if first == last { first.to_string() } else { format!("{first}-{last}") };
    match host {
        Some(host) => format!("{host}:{ports}->{ports}/{protocol}"),
        None => format!("{ports}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entries: &[(u16, &str, u16, &str)], expected: &str) {
        let entry = |&(port, host, host_port, protocol): &(u16, &str, u16, &str)| {
            let host = (!host.is_empty()).then(|| host.parse().unwrap());
            (port, host, host_port, protocol.parse().unwrap())
        };
        assert_eq!(render(entries.iter().map(entry).collect()), expected);
    }

    /// From the tests of docker/cli (`cli/command/formatter/container_test.go`, `TestDisplayablePorts`).
    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        check(&[(9988, "", 0, "tcp")], "9988/tcp");
        check(&[(9988, "4.3.2.1", 8899, "tcp")], "4.3.2.1:8899->9988/tcp");
        check(&[(9988, "4.3.2.1", 9988, "tcp")], "4.3.2.1:9988->9988/tcp");
        check(&[(9988, "", 0, "udp"), (9988, "", 0, "tcp")], "9988/tcp, 9988/udp");
        check(
            &[(9998, "1.2.3.4", 9998, "udp"), (9999, "1.2.3.4", 9999, "udp")],
            "1.2.3.4:9998-9999->9998-9999/udp",
        );
        check(&[(6677, "1.2.3.4", 7766, "tcp"), (9988, "", 8899, "udp")], "9988/udp, 1.2.3.4:7766->6677/tcp");
        check(&[(80, "", 0, "tcp"), (81, "", 0, "tcp"), (83, "", 0, "tcp")], "80-81/tcp, 83/tcp");
    }
}
