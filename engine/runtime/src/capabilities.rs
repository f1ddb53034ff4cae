//! Linux capabilities by name (capabilities(7)).

use std::str::FromStr;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

/// A set of capabilities; bit n is the capability numbered n in linux/capability.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(u64);

/// A name that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid capability: {0:?}")]
pub struct UnknownCapability(pub String);

/// In the order of their numbers (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's fourteen (moby `oci/caps/defaults.go`).
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// Docker's default set.
    pub fn default_set() -> Self {
        DEFAULT.iter().filter_map(|name| number(name)).fold(Self::NONE, |set, n| Self(set.0 | 1 << n))
    }

    /// All that this kernel interface knows of.
    pub const fn all() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    /// The set with `other` added.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set without what `other` holds.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The set of what both hold.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names of those in it, as `CAP_CHOWN`.
    pub fn names(self) -> Vec<String> {
        let names = NAMES.iter().enumerate().filter(|(n, _)| self.0 & 1 << n != 0);
        names.map(|(_, name)| format!("CAP_{name}")).collect()
    }

    /// The bits, as in `/proc/self/status`.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// A set from its bits, as in `/proc/self/status`.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The single capability with this name, which must be one of capabilities(7), without `CAP_`.
    pub(crate) fn named(name: &str) -> Self {
        number(name).map_or(Self::NONE, |n| Self(1 << n))
    }

    pub(crate) fn to_rustix(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(self.0)
    }
}

impl FromStr for Capabilities {
    type Err = UnknownCapability;

    /// Accepts `ALL`, and one name in any case, with or without `CAP_`.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let upper = s.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" {
            return Ok(Self::all());
        }
        number(name).map(|n| Self(1 << n)).ok_or_else(|| UnknownCapability(s.to_owned()))
    }
}

fn number(name: &str) -> Option<usize> {
    NAMES.iter().position(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_set_has_the_bits_that_docker_shows() {
        assert_eq!(Capabilities::default_set().bits(), 0xa804_25fb);
    }

    #[test]
    fn parses_names() {
        assert_eq!("cap_sys_admin".parse::<Capabilities>().unwrap().bits(), 1 << 21);
        assert_eq!("NET_ADMIN".parse::<Capabilities>().unwrap().bits(), 1 << 12);
        assert_eq!("all".parse::<Capabilities>().unwrap(), Capabilities::all());
        assert!("CAP_NOPE".parse::<Capabilities>().is_err());
    }
}
