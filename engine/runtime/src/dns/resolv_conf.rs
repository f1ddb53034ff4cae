use std::net::{IpAddr, Ipv4Addr};

/// Where a container's resolver listens, inside its network namespace; Docker's address for it.
pub const CONTAINER_RESOLVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Set unless the host sets `ndots` itself: a service's name without a dot is asked for as it is before the
/// search list is tried (Docker's choice: moby, `libnetwork/sandbox_dns_unix.go`).
const REQUIRED_OPTION: &str = "ndots:0";

/// What a resolver configuration says (resolv.conf(5)).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// The resolvers, in order of preference.
    pub nameservers: Vec<IpAddr>,
    /// The domains tried for a short name.
    pub search: Vec<String>,
    /// Options, as they stand.
    pub options: Vec<String>,
}

/// Reads a resolver configuration as the C library does: what it does not understand, it passes over.
///
/// `domain` is a search list of one; the last of the two counts. Options add up.
pub fn parse_resolv_conf(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else { continue };
        // A comment may follow what counts, too.
        let values = words.take_while(|word| !word.starts_with(['#', ';']));
        match keyword {
            "nameserver" => {
                conf.nameservers.extend(values.take(1).filter_map(|word| word.parse::<IpAddr>().ok()));
            }
            "search" => conf.search = values.map(str::to_owned).collect(),
            "domain" => conf.search = values.take(1).map(str::to_owned).collect(),
            "options" => conf.options.extend(values.map(str::to_owned)),
            _ => {}
        }
    }
    conf
}

/// Writes the `/etc/resolv.conf` of a container whose resolver is ours, from the host's.
pub fn container_resolv_conf(host: &ResolvConf) -> String {
    let mut text = format!("nameserver {CONTAINER_RESOLVER}\n");
    if !host.search.is_empty() {
        text.push_str(&format!("search {}\n", host.search.join(" ")));
    }
    let mut options: Vec<&str> = host.options.iter().map(String::as_str).collect();
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push(REQUIRED_OPTION);
    }
    text.push_str(&format!("options {}\n", options.join(" ")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_c_library_reads() {
        let conf = parse_resolv_conf(
            "# made by hand\n\
             ; another comment\n\
             domain old.example\n\
             nameserver 192.0.2.1   # first\n\
             \tnameserver 2001:db8::1\n\
             nameserver not-an-address\n\
             search a.example b.example ; c.example\n\
             options edns0 timeout:2\n\
             options trust-ad\n\
             sortlist 10.0.0.0\n\
             nameserver\n",
        );
        assert_eq!(conf.nameservers, ["192.0.2.1", "2001:db8::1"].map(|a| a.parse::<IpAddr>().unwrap()));
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!(conf.options, ["edns0", "timeout:2", "trust-ad"]);
    }

    #[test]
    fn a_container_keeps_the_hosts_search_list_and_options() {
        let host = parse_resolv_conf("nameserver 192.0.2.1\nsearch a.example b.example\noptions edns0\n");
        assert_eq!(
            container_resolv_conf(&host),
            "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 ndots:0\n"
        );
        assert_eq!(container_resolv_conf(&ResolvConf::default()), "nameserver 127.0.0.11\noptions ndots:0\n");
    }

    #[test]
    fn the_hosts_own_ndots_counts() {
        let host = parse_resolv_conf("options ndots:5 edns0");
        assert_eq!(container_resolv_conf(&host), "nameserver 127.0.0.11\noptions ndots:5 edns0\n");
    }
}
