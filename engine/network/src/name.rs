use std::fmt;
use std::str::FromStr;

use engine_types::{ContainerId, ErrorKind, NetworkId};

/// The longest interface name: `IFNAMSIZ` (linux/if.h) less its terminating zero.
const IFNAME_MAX: usize = 15;
/// What every interface of ours on the host begins with, whatever engine root it belongs to: the constant
/// iptables rules of a host whose FORWARD policy is DROP match it.
pub(crate) const PREFIX: &str = "lt";
/// Hex digits that name an instance.
const INSTANCE_DIGITS: usize = 8;

/// A network interface's name: 1 to 15 letters, digits, `.`, `_` or `-`.
///
/// The kernel allows more, but names also stand in nftables scripts and below `/proc/sys/net`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfName(String);

/// A string that is no interface name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid interface name {0:?}: expected 1 to {IFNAME_MAX} letters, digits, '.', '_' or '-'")]
pub struct ParseIfNameError(pub String);

impl ParseIfNameError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl IfName {
    /// Derives the host side's name of a container's endpoint on a network: `ltv` and six hex digits of each.
    pub fn endpoint(container: &ContainerId, network: &NetworkId) -> Self {
        Self(format!("{PREFIX}v{}{}", &container.to_string()[..6], &network.to_string()[..6]))
    }

    /// The loopback interface.
    pub fn loopback() -> Self {
        Self("lo".to_owned())
    }

    /// The bridge of a network that has a namespace for it.
    pub fn switch_bridge() -> Self {
        Self("br0".to_owned())
    }

    /// The end, there, of the cable to the host.
    pub(crate) fn switch_port() -> Self {
        Self("host".to_owned())
    }

    /// The interfaces of a container as Docker names them, from 0.
    pub fn eth(number: usize) -> Self {
        Self(format!("eth{number}"))
    }

    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for IfName {
    type Err = ParseIfNameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        // The kernel refuses the two directory names; `all` and `default` mean every interface in /proc/sys.
        let reserved = matches!(s, "." | ".." | "all" | "default");
        if s.is_empty() || s.len() > IFNAME_MAX || reserved || !s.bytes().all(allowed) {
            return Err(ParseIfNameError(s.to_owned()));
        }
        Ok(Self(s.to_owned()))
    }
}

/// Eight hex digits that name an engine's root, so that several roots live on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance(String);

/// A string that is not eight lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid instance {0:?}: expected {INSTANCE_DIGITS} lower-case hex digits")]
pub struct ParseInstanceError(pub String);

impl ParseInstanceError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl Instance {
    /// The nftables table of this instance, in family `inet`.
    pub(crate) fn table(&self) -> String {
        format!("lighter_{}", self.0)
    }

    /// What marks an interface as this instance's (`IFLA_IFALIAS`), up to the network's id.
    pub(crate) fn alias_prefix(&self) -> String {
        format!("{ALIAS_PREFIX}{}:", self.0)
    }

    /// What marks an interface as part of a network of this instance.
    pub(crate) fn alias(&self, network: &NetworkId) -> String {
        format!("{}{network}", self.alias_prefix())
    }

    /// The bridge's name of a network: `lt`, four digits of the instance, nine of the network's id.
    pub(crate) fn bridge(&self, network: &NetworkId) -> IfName {
        IfName(format!("{PREFIX}{}{}", &self.0[..4], &network.to_string()[..9]))
    }
}

/// What begins the alias of every interface of ours, whatever instance it belongs to.
pub(crate) const ALIAS_PREFIX: &str = "lighter:";

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Instance {
    type Err = ParseInstanceError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if s.len() != INSTANCE_DIGITS || !s.bytes().all(digit) {
            return Err(ParseInstanceError(s.to_owned()));
        }
        Ok(Self(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_what_kernel_nft_and_proc_agree_on() {
        for good in ["a", "eth0", "br-0123456789ab", "lt_x.1"] {
            assert_eq!(good.parse::<IfName>().unwrap().as_str(), good);
        }
        for bad in ["", "0123456789abcdef", "a b", "a/b", "lt*", "\"", ".", "..", "all", "default", "é"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn derived_names_are_valid_and_begin_with_the_common_prefix() {
        let network = NetworkId::from_random([0xab; 32]);
        let instance: Instance = "0123cdef".parse().unwrap();
        assert_eq!(instance.bridge(&network).as_str(), "lt0123ababababa");
        let endpoint = IfName::endpoint(&ContainerId::from_random([0xcd; 32]), &network);
        assert_eq!(endpoint.as_str(), "ltvcdcdcdababab");
        assert_eq!(endpoint.as_str().parse(), Ok(endpoint));
    }

    #[test]
    fn instances_are_eight_hex_digits() {
        for bad in ["", "0123456", "012345678", "0123456g", "0123456A"] {
            assert!(bad.parse::<Instance>().is_err(), "{bad}");
        }
    }
}
