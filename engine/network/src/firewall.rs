//! The nftables table of an instance: fixed chains, and a network as elements of its sets.
//!
//! Every rule looks only at packets of our own bridges or for ports that we publish, and every chain's policy is accept,
//! so another root's table and other software's traffic are left alone. An accept ends only our own chain: the host's other
//! tables still have their say.
//!
//! Written as nft's own text rather than through a library's objects: what is reviewed is what the kernel gets.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde_json::Value;

use engine_types::ErrorKind;

use crate::bridge::BridgeSpec;
use crate::name::Instance;
use crate::ports::{PublishedPort, Withdrawal};
use crate::program::{self, ProgramError};

/// Changes whenever [`BASE`] does: an empty chain of this name in the table says which rules stand there.
const GENERATION: &str = "generation_3";

/// The table without its networks. Applying it again replaces the chains and keeps the sets' elements.
const BASE: &str = r#"
add table inet TABLE
add chain inet TABLE GENERATION

# Every bridge of ours.
add set inet TABLE bridges { type ifname; }
# Those whose containers may not reach the host.
add set inet TABLE guarded { type ifname; }
# Those with no way in or out.
add set inet TABLE internal { type ifname; }
# (b, b) for each bridge b whose containers may reach each other.
add set inet TABLE same_network { type ifname . ifname; }
# Those whose containers show themselves with their own addresses outside.
add set inet TABLE unmasked { type ifname; }
# (b, subnet of b)
add set inet TABLE sources { type ifname . ipv4_addr; flags interval; }
# Published ports: (protocol, host's port) on all of the host's addresses, (address, protocol, port) on one.
add map inet TABLE published { type inet_proto . inet_service : ipv4_addr . inet_service; }
add map inet TABLE published_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }

add chain inet TABLE source_check { type filter hook prerouting priority raw; policy accept; }
add chain inet TABLE host_check { type filter hook prerouting priority mangle; policy accept; }
add chain inet TABLE to_host { type filter hook input priority filter; policy accept; }
add chain inet TABLE between { type filter hook forward priority filter; policy accept; }
add chain inet TABLE way_in { type nat hook prerouting priority dstnat; policy accept; }
# dstnat, which older nft versions have no name for in this hook.
add chain inet TABLE host_way_in { type nat hook output priority -100; policy accept; }
add chain inet TABLE way_out { type nat hook postrouting priority srcnat; policy accept; }
flush chain inet TABLE source_check
flush chain inet TABLE host_check
flush chain inet TABLE to_host
flush chain inet TABLE between
flush chain inet TABLE way_in
flush chain inet TABLE host_way_in
flush chain inet TABLE way_out

# No container sends in another network's or the host's name.
add rule inet TABLE source_check iifname @bridges meta nfproto ipv4 iifname . ip saddr != @sources drop
# Bridges with published ports route loopback addresses (route_localnet): the host's loopback services, and the ports
# published there, are the host's alone (CVE-2020-8558).
add rule inet TABLE source_check iifname @bridges ip daddr 127.0.0.0/8 drop

# Before anybody's DNAT (dstnat, -100) turns the host's address into that of a service behind it, and after
# conntrack (-200), which lets the answers to the host's own connections through.
add rule inet TABLE host_check iifname @guarded ct state established,related accept
add rule inet TABLE host_check iifname @guarded fib daddr type local drop
add rule inet TABLE host_check iifname @guarded ip daddr 169.254.0.0/16 drop

# What is delivered here without being addressed to one of the host's addresses: multicast, broadcast, IPv6.
add rule inet TABLE to_host iifname @guarded ct state established,related accept
add rule inet TABLE to_host iifname @guarded drop

add rule inet TABLE between ct state established,related accept
# With br_netfilter, frames within a bridge come by here too.
add rule inet TABLE between iifname . oifname @same_network accept
add rule inet TABLE between iifname @internal drop
add rule inet TABLE between oifname @internal drop
add rule inet TABLE between iifname @bridges meta nfproto ipv6 drop
# Source NAT passes these by: they would leave with a private address.
add rule inet TABLE between iifname @bridges ct state invalid drop
# Published ports; nothing else comes in, from wherever.
add rule inet TABLE between oifname @bridges ct status dnat accept
add rule inet TABLE between oifname @bridges drop

# A packet for a loopback address that comes from outside is nothing that a rule of ours should give a meaning to.
add rule inet TABLE way_in ip daddr 127.0.0.0/8 accept
add rule inet TABLE way_in fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at
add rule inet TABLE way_in fib daddr type local dnat ip to meta l4proto . th dport map @published
add rule inet TABLE host_way_in fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at
add rule inet TABLE host_way_in fib daddr type local dnat ip to meta l4proto . th dport map @published

add rule inet TABLE way_out iifname @bridges iifname != @unmasked oifname != @bridges masquerade
# The answer has to come back by here: from a neighbour it would go straight to the asker, from a loopback address it
# would never leave the container.
add rule inet TABLE way_out oifname @bridges ct status dnat oifname . ip saddr @sources masquerade
add rule inet TABLE way_out oifname @bridges ct status dnat ip saddr 127.0.0.0/8 masquerade
"#;

/// A failed change of the nftables rules, or rules that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// `nft` failed or is missing.
    #[error(transparent)]
    Nft(#[from] ProgramError),
    /// `nft` listed something that is not as its JSON schema (libnftables-json(5)) says.
    #[error("cannot read the list of {what} that nft printed")]
    Listing {
        /// What was listed.
        what: String,
        /// The parser's complaint.
        #[source]
        source: serde_json::Error,
    },
}

impl FirewallError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Nft(e) => e.kind(),
            Self::Listing { .. } => ErrorKind::Internal,
        }
    }
}

/// A base chain, as far as it matters to forwarding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseChain {
    pub(crate) family: String,
    pub(crate) table: String,
    pub(crate) name: String,
}

/// Lets a network's packets through as its spec says, and lists the chains, of whatever table, that drop forwarded
/// packets unless a rule accepts them. Repeating it changes nothing.
pub(crate) fn add_network(instance: &Instance, spec: &BridgeSpec) -> Result<Vec<BaseChain>, FirewallError> {
    let table = instance.table();
    let step = format!("add the rules of bridge {}", spec.name);
    let elements = element_commands("add", &table, &elements_of(spec)) + "list chains\n";
    Ok(drop_chains(&on_base(&table, &elements, &step)?))
}

/// Runs a script of elements on a table whose chains are this version's, making them where they are not.
fn on_base(table: &str, elements: &str, step: &str) -> Result<String, ProgramError> {
    // Replacing chains that carry traffic costs the kernel 10 ms and more; elements alone cost none of it.
    let elements_only = format!("flush chain inet {table} {GENERATION}\n{elements}");
    match nft(&["-f", "-"], &elements_only, step) {
        Err(e) if e.is_absent() => {
            let base = BASE.replace("TABLE", table).replace("GENERATION", GENERATION);
            nft(&["-f", "-"], &format!("{base}{elements}"), step)
        }
        result => result,
    }
}

/// Takes a network's elements out; succeeds where they or the table are gone already.
pub(crate) fn remove_network(instance: &Instance, spec: &BridgeSpec) -> Result<(), FirewallError> {
    let table = instance.table();
    let elements = elements_of(spec);
    // Deleting an element that is not there fails, adding one that is does not.
    let script = element_commands("add", &table, &elements) + &element_commands("delete", &table, &elements);
    match nft(&["-f", "-"], &script, &format!("remove the rules of bridge {}", spec.name)) {
        // Without nft there were no rules to make: a network that failed for that must be removable.
        Err(ProgramError::NotFound { .. }) => Ok(()),
        Err(e) if !e.is_absent() => Err(e.into()),
        _ => Ok(()),
    }
}

/// Leads ports of the host to a container's address.
pub(crate) fn publish(
    instance: &Instance,
    address: Ipv4Addr,
    ports: &[PublishedPort],
) -> Result<(), FirewallError> {
    let table = instance.table();
    let elements = element_commands("add", &table, &port_elements(address, ports));
    // The network may be one that an older version has made.
    on_base(&table, &elements, &format!("publish ports of {address}"))?;
    Ok(())
}

/// Takes published ports out; succeeds where they or the table are gone, or lead elsewhere.
pub(crate) fn unpublish(
    instance: &Instance,
    address: Ipv4Addr,
    ports: &[PublishedPort],
) -> Result<(), FirewallError> {
    let script = withdrawal_script(instance, address, ports);
    match nft(&["-f", "-"], &script, &format!("withdraw ports of {address}")) {
        // One that leads elsewhere keeps the others.
        Err(e) if e.is_taken() && ports.len() > 1 => {
            ports.iter().try_for_each(|port| unpublish(instance, address, &[*port]))
        }
        Err(ProgramError::NotFound { .. }) => Ok(()),
        Err(e) if !e.is_absent() && !e.is_taken() => Err(e.into()),
        _ => Ok(()),
    }
}

/// The command that takes published ports out.
pub(crate) fn withdrawal(
    instance: &Instance,
    address: Ipv4Addr,
    ports: &[PublishedPort],
) -> Result<Withdrawal, FirewallError> {
    let input = withdrawal_script(instance, address, ports);
    Ok(Withdrawal { program: program()?, args: ["-f", "-"].map(String::from).to_vec(), input })
}

/// Deleting an element that is not there fails, adding one that is does not.
fn withdrawal_script(instance: &Instance, address: Ipv4Addr, ports: &[PublishedPort]) -> String {
    let (table, elements) = (instance.table(), port_elements(address, ports));
    element_commands("add", &table, &elements) + &element_commands("delete", &table, &elements)
}

/// Takes the elements out of all bridges but `keep`, the table itself where `keep` is empty, and returns how
/// many elements that were; `None` where there was no table.
pub(crate) fn retain_networks(
    instance: &Instance,
    keep: &HashSet<String>,
) -> Result<Option<usize>, FirewallError> {
    let table = instance.table();
    let what = format!("table inet {table}");
    let listing = match nft(&["-j", "list", "table", "inet", &table], "", &format!("list {what}")) {
        // A host without nft has no table either, and sweeping it is no reason to ask for one.
        Err(ProgramError::NotFound { .. }) => return Ok(None),
        Err(e) if e.is_absent() => return Ok(None),
        result => result?,
    };
    let listing = parse(&listing, &what)?;
    let mut stale = stale_elements(&listing, keep);
    stale.extend(stale_ports(&listing, keep));
    if keep.is_empty() {
        match nft(&["delete", "table", "inet", &table], "", &format!("delete {what}")) {
            Err(e) if !e.is_absent() => return Err(e.into()),
            _ => {}
        }
    } else if !stale.is_empty() {
        nft(&["-f", "-"], &element_commands("delete", &table, &stale), &format!("sweep {what}"))?;
    }
    Ok(Some(stale.len()))
}

fn nft(args: &[&str], script: &str, step: &str) -> Result<String, ProgramError> {
    program::run(program()?, args, script, step)
}

fn program() -> Result<PathBuf, ProgramError> {
    program::find("nft").ok_or(ProgramError::NotFound { program: "nft", package: "nftables" })
}

fn parse(listing: &str, what: &str) -> Result<Value, FirewallError> {
    serde_json::from_str(listing).map_err(|source| FirewallError::Listing { what: what.to_owned(), source })
}

/// A network as (set, element) pairs in nft's syntax.
fn elements_of(spec: &BridgeSpec) -> Vec<(String, String)> {
    let name = format!("\"{}\"", spec.name);
    let mut elements = vec![("bridges", name.clone())];
    if !spec.host_access {
        elements.push(("guarded", name.clone()));
    }
    if spec.internal {
        elements.push(("internal", name.clone()));
    }
    if spec.icc {
        elements.push(("same_network", format!("{name} . {name}")));
    }
    if !spec.masquerade {
        elements.push(("unmasked", name.clone()));
    }
    elements.push(("sources", format!("{name} . {}", spec.subnet.trunc())));
    elements.into_iter().map(|(set, element)| (set.to_owned(), element)).collect()
}

/// Published ports as (map, element) pairs in nft's syntax.
fn port_elements(address: Ipv4Addr, ports: &[PublishedPort]) -> Vec<(String, String)> {
    let element = |port: &PublishedPort| {
        let PublishedPort { protocol, host_ip, host_port, container_port } = port;
        let target = format!("{address} . {container_port}");
        if host_ip.is_unspecified() {
            ("published".to_owned(), format!("{protocol} . {host_port} : {target}"))
        } else {
            ("published_at".to_owned(), format!("{host_ip} . {protocol} . {host_port} : {target}"))
        }
    };
    ports.iter().map(element).collect()
}

fn element_commands(verb: &str, table: &str, elements: &[(String, String)]) -> String {
    elements
        .iter()
        .map(|(set, element)| format!("{verb} element inet {table} {set} {{ {element} }}\n"))
        .collect()
}

/// Reads the elements that name a bridge not in `keep` out of a listed table.
fn stale_elements(listing: &Value, keep: &HashSet<String>) -> Vec<(String, String)> {
    let mut stale = Vec::new();
    for set in objects(listing, "set") {
        let (Some(name), Some(elements)) = (set["name"].as_str(), set["elem"].as_array()) else { continue };
        for element in elements {
            let parts: Vec<String> = match element["concat"].as_array() {
                Some(parts) => parts.iter().filter_map(element_text).collect(),
                None => element_text(element).into_iter().collect(),
            };
            let Some(bridge) = parts.first() else { continue };
            if !keep.contains(bridge.trim_matches('"')) {
                stale.push((name.to_owned(), parts.join(" . ")));
            }
        }
    }
    stale
}

/// Reads the published ports that lead to no bridge in `keep` out of a listed table.
fn stale_ports(listing: &Value, keep: &HashSet<String>) -> Vec<(String, String)> {
    let sources = objects(listing, "set").filter(|set| set["name"] == "sources");
    let kept: Vec<Ipv4Net> = sources
        .flat_map(|set| set["elem"].as_array().into_iter().flatten())
        .filter(|element| element["concat"][0].as_str().is_some_and(|bridge| keep.contains(bridge)))
        .filter_map(|element| element_text(&element["concat"][1])?.parse().ok())
        .collect();
    let is_kept = |target: &Value| {
        let address = target["concat"][0].as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
        address.is_some_and(|address| kept.iter().any(|subnet| subnet.contains(&address)))
    };
    let mut stale = Vec::new();
    for map in objects(listing, "map") {
        let (Some(name), Some(elements)) = (map["name"].as_str(), map["elem"].as_array()) else { continue };
        for pair in elements.iter().filter(|pair| !is_kept(&pair[1])) {
            let text = |side: &Value| {
                let parts = side["concat"].as_array().into_iter().flatten();
                parts
                    .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
                    .collect::<Vec<_>>()
            };
            let element = format!("{} : {}", text(&pair[0]).join(" . "), text(&pair[1]).join(" . "));
            stale.push((name.to_owned(), element));
        }
    }
    stale
}

/// An interface name, an address or a prefix in nft's syntax.
fn element_text(part: &Value) -> Option<String> {
    if let Some(prefix) = part.get("prefix") {
        return Some(format!("{}/{}", prefix["addr"].as_str()?, prefix["len"].as_u64()?));
    }
    let text = part.as_str()?;
    let is_address = text.parse::<std::net::Ipv4Addr>().is_ok();
    Some(if is_address { text.to_owned() } else { format!("\"{text}\"") })
}

/// Reads what `nft list chains` prints; a script can ask for nothing else beside its changes.
fn drop_chains(listing: &str) -> Vec<BaseChain> {
    let (mut family, mut table, mut name) = ("", "", "");
    let mut chains = Vec::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split([' ', '\t', ';']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            ["table", its_family, its_name, "{"] => (family, table) = (its_family, its_name),
            ["chain", its_name, "{"] => name = its_name,
            ["type", _, "hook", "forward", .., "policy", "drop"] => {
                let [family, table, name] = [family, table, name].map(str::to_owned);
                chains.push(BaseChain { family, table, name });
            }
            _ => {}
        }
    }
    chains
}

fn objects<'a>(listing: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    listing["nftables"].as_array().into_iter().flatten().filter_map(move |object| object.get(kind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_elements_of_bridges_that_are_gone() {
        let listing = json!({"nftables": [
            {"metainfo": {"json_schema_version": 1}},
            {"set": {"name": "bridges", "elem": ["lt1", "lt2"]}},
            {"set": {"name": "internal"}},
            {"set": {"name": "same_network", "elem": [{"concat": ["lt1", "lt1"]}, {"concat": ["lt2", "lt2"]}]}},
            {"set": {"name": "sources", "elem": [
                {"concat": ["lt2", {"prefix": {"addr": "172.19.0.0", "len": 16}}]},
                {"concat": ["lt1", {"prefix": {"addr": "172.18.0.0", "len": 16}}]},
                {"concat": ["lt3", "10.0.0.1"]},
            ]}},
            {"chain": {"name": "between"}},
        ]});
        let stale = stale_elements(&listing, &HashSet::from(["lt1".to_owned()]));
        assert_eq!(
            element_commands("delete", "t", &stale),
            "delete element inet t bridges { \"lt2\" }\n\
             delete element inet t same_network { \"lt2\" . \"lt2\" }\n\
             delete element inet t sources { \"lt2\" . 172.19.0.0/16 }\n\
             delete element inet t sources { \"lt3\" . 10.0.0.1 }\n"
        );
    }

    #[test]
    fn finds_published_ports_of_bridges_that_are_gone() {
        let listing = json!({"nftables": [
            {"set": {"name": "sources", "elem": [
                {"concat": ["lt1", {"prefix": {"addr": "172.18.0.0", "len": 16}}]},
                {"concat": ["lt2", {"prefix": {"addr": "172.19.0.0", "len": 16}}]},
            ]}},
            {"map": {"name": "published", "elem": [
                [{"concat": ["tcp", 8080]}, {"concat": ["172.18.0.2", 80]}],
                [{"concat": ["udp", 53]}, {"concat": ["172.19.0.2", 5353]}],
            ]}},
            {"map": {"name": "published_at"}},
        ]});
        let stale = stale_ports(&listing, &HashSet::from(["lt1".to_owned()]));
        assert_eq!(stale, [("published".to_owned(), "udp . 53 : 172.19.0.2 . 5353".to_owned())]);
    }

    #[test]
    fn finds_chains_that_drop_forwarded_packets() {
        let listing = "\
table ip filter {
\tchain FORWARD {
\t\ttype filter hook forward priority filter; policy drop;
\t}
\tchain INPUT {
\t\ttype filter hook input priority filter; policy drop;
\t}
}
table inet x {
\tchain f {
\t\ttype filter hook forward priority 0; policy accept;
\t}
\tchain plain {
\t}
}
";
        let chains = drop_chains(listing);
        assert_eq!(chains.len(), 1);
        assert_eq!((chains[0].family.as_str(), chains[0].name.as_str()), ("ip", "FORWARD"));
    }
}
