use std::collections::HashSet;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use engine_types::{ErrorKind, NetworkId};

use crate::endpoint::delete_link;
use crate::name::ALIAS_PREFIX;
use crate::netlink::{Connection, NetlinkError};
use crate::teardown::{self, TeardownFailure};
use crate::{IfName, NetworkDriver, firewall, forward_policy};

/// What a sweep removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Bridges and host ends of veth pairs.
    pub interfaces: Vec<IfName>,
    /// How many nftables set elements.
    pub elements: usize,
}

/// What a sweep could not do; it did the rest.
#[derive(Debug, thiserror::Error)]
#[error("cannot sweep all that dead networks left: {}", teardown::messages(failures))]
pub struct SweepError {
    /// What was removed all the same.
    pub swept: Swept,
    /// What stood in the way, at least one.
    pub failures: Vec<TeardownFailure>,
}

impl SweepError {
    /// What this error means to the caller: the first failure's kind.
    pub fn kind(&self) -> ErrorKind {
        teardown::kind(&self.failures)
    }
}

/// The interfaces that a sweep leaves.
#[derive(Default)]
struct Left {
    /// The names of this instance's.
    own: HashSet<String>,
    /// Whether there are any of another instance.
    others: bool,
}

impl NetworkDriver {
    /// Removes the bridges, host ends of veth pairs and rules of this instance's networks that are not in
    /// `keep`; with the last network of all go the table and what a FORWARD policy of DROP had made necessary.
    ///
    /// No network may be made at the same time that is not in `keep`.
    pub fn sweep(&self, keep: &HashSet<NetworkId>) -> Result<Swept, SweepError> {
        let mut swept = Swept::default();
        let mut failures = Vec::new();
        match self.sweep_links(keep, &mut swept, &mut failures) {
            Ok(left) => self.sweep_rules(keep, &left, &mut swept, &mut failures),
            Err(e) => failures.push(e.into()),
        }
        if failures.is_empty() { Ok(swept) } else { Err(SweepError { swept, failures }) }
    }

    fn sweep_links(
        &self,
        keep: &HashSet<NetworkId>,
        swept: &mut Swept,
        failures: &mut Vec<TeardownFailure>,
    ) -> Result<Left, NetlinkError> {
        let mut connection = Connection::open()?;
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let mut left = Left::default();
        for object in connection.dump("list interfaces", &all)? {
            let RouteNetlinkMessage::NewLink(link) = object else { continue };
            let Some((name, alias)) = name_and_alias(&link) else { continue };
            let Some(network) = alias.strip_prefix(&self.instance.alias_prefix()) else {
                left.others |= alias.starts_with(ALIAS_PREFIX);
                continue;
            };
            let kept = network.parse().is_ok_and(|id: NetworkId| keep.contains(&id));
            match name.parse::<IfName>() {
                Ok(name) if !kept => match delete_link(&mut connection, &name) {
                    Ok(()) => swept.interfaces.push(name),
                    Err(e) => {
                        left.own.insert(name.to_string());
                        failures.push(e.into());
                    }
                },
                _ => drop(left.own.insert(name.to_owned())),
            }
        }
        Ok(left)
    }

    /// The rules of an interface that could not be removed stay, as does a kept network's without a bridge.
    fn sweep_rules(
        &self,
        keep: &HashSet<NetworkId>,
        left: &Left,
        swept: &mut Swept,
        failures: &mut Vec<TeardownFailure>,
    ) {
        let mut kept = left.own.clone();
        kept.extend(keep.iter().map(|id| self.bridge_name(id).to_string()));
        match firewall::retain_networks(&self.instance, &kept) {
            Ok(None) => {}
            Ok(Some(elements)) => {
                swept.elements = elements;
                if kept.is_empty() && !left.others {
                    failures.extend(forward_policy::restore(&self.proc).err().map(TeardownFailure::from));
                }
            }
            Err(e) => failures.push(e.into()),
        }
    }
}

fn name_and_alias(link: &LinkMessage) -> Option<(&str, &str)> {
    let mut name = None;
    let mut alias = None;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.as_str()),
            LinkAttribute::IfAlias(text) => alias = Some(text.as_str()),
            _ => {}
        }
    }
    Some((name?, alias?))
}
