//! The PORTS column: ports in a row that have the same number on both sides are one entry, as Docker prints it.

use serde_json::Value;

/// A port of a container, with its address and port on the host if it is published; in the column's order.
type Entry<'a> = (u16, &'a str, u16, &'a str);

pub(super) fn column(ports: &[Value]) -> String {
    let number = |value: &Value| value.as_u64().and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
    let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
    let ports: Vec<(u16, String, u16, String)> = ports
        .iter()
        .map(|p| (number(&p["PrivatePort"]), text(&p["IP"]), number(&p["PublicPort"]), text(&p["Type"])))
        .collect();
    let mut entries: Vec<Entry<'_>> = ports
        .iter()
        .map(|(private, ip, public, kind)| (*private, ip.as_str(), *public, kind.as_str()))
        .collect();
    entries.sort_unstable();
    render(&entries)
}

fn render(entries: &[Entry<'_>]) -> String {
    let (mut shown, mut mapped) = (Vec::new(), Vec::new());
    // Of one protocol at one address, with the first and the last port so far.
    let mut groups: Vec<((&str, &str), u16, u16)> = Vec::new();
    for &(private, ip, public, kind) in entries {
        if !ip.is_empty() && public != private {
            mapped.push(format!("{}:{public}->{private}/{kind}", bracketed(ip)));
            continue;
        }
        match groups.iter_mut().find(|(key, ..)| *key == (ip, kind)) {
            None => groups.push(((ip, kind), private, private)),
            Some((_, _, last)) if last.checked_add(1) == Some(private) => *last = private,
            Some(group) => {
                shown.push(entry(group));
                *group = ((ip, kind), private, private);
            }
        }
    }
    shown.extend(groups.iter().map(entry));
    shown.append(&mut mapped);
    shown.join(", ")
}

fn entry(((ip, kind), first, last): &((&str, &str), u16, u16)) -> String {
    let range = if first == last { first.to_string() } else { format!("{first}-{last}") };
    if ip.is_empty() {
        format!("{range}/{kind}")
    } else {
        format!("{}:{range}->{range}/{kind}", bracketed(ip))
    }
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(entries: &[Entry<'_>], expected: &str) {
        let mut entries = entries.to_vec();
        entries.sort_unstable();
        assert_eq!(render(&entries), expected);
    }

    /// From the tests of docker/cli (`cli/command/formatter/container_test.go`, `TestDisplayablePorts`).
    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        check(&[(9988, "", 0, "tcp")], "9988/tcp");
        check(&[(9988, "4.3.2.1", 8899, "tcp")], "4.3.2.1:8899->9988/tcp");
        check(&[(9988, "4.3.2.1", 9988, "tcp")], "4.3.2.1:9988->9988/tcp");
        check(&[(9988, "::", 8899, "tcp")], "[::]:8899->9988/tcp");
        check(&[(9988, "", 0, "udp"), (9988, "", 0, "tcp")], "9988/tcp, 9988/udp");
        check(
            &[(9998, "1.2.3.4", 9998, "udp"), (9999, "1.2.3.4", 9999, "udp")],
            "1.2.3.4:9998-9999->9998-9999/udp",
        );
        check(&[(6677, "1.2.3.4", 7766, "tcp"), (9988, "", 8899, "udp")], "9988/udp, 1.2.3.4:7766->6677/tcp");
        check(&[(80, "", 0, "tcp"), (81, "", 0, "tcp"), (83, "", 0, "tcp")], "80-81/tcp, 83/tcp");
        check(&[], "");
    }
}
