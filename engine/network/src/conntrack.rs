//! Flows of datagrams that the kernel remembers: for as long as one goes on, its packets go where its first one went,
//! whatever the rules say by now. So those to a port that has just been published are forgotten, be it that nobody
//! answered there or a container that is gone.
//!
//! The messages are ctnetlink's (linux/netfilter/nfnetlink_conntrack.h): a header, four bytes of family and version,
//! attributes.

use std::collections::HashSet;
use std::io;
use std::net::Ipv4Addr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use crate::netlink::NetlinkError;

const LIST: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const HEADER: usize = 16;
/// Family IPv4, version 0, no resource.
const GENERIC: [u8; 4] = [2, 0, 0, 0];
const TYPE_ERROR: u16 = 2;
const TYPE_DONE: u16 = 3;
/// The type of an attribute without its flags.
const TYPE_MASK: u16 = 0x3fff;

/// The direction that a flow's first packet had: addresses and protocol.
const TUPLE_ORIG: u16 = 1;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_V4_DST: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_DST_PORT: u16 = 3;
const UDP: u8 = 17;

/// Forgets the flows of datagrams to these addresses and ports.
pub(crate) fn forget(targets: &HashSet<(Ipv4Addr, u16)>) -> Result<(), NetlinkError> {
    let forget = || {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        for tuple in flows(&socket, targets)? {
            let mut message = request(DELETE, NLM_F_ACK);
            message.extend(tuple);
            send(&socket, message)?;
            // One that has ended meanwhile is as good.
            let (answer, _) = socket.recv_from_full()?;
            for (kind, body) in messages(&answer) {
                match error_of(kind, body) {
                    Some(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    };
    forget().map_err(|e: io::Error| NetlinkError::new("forget the flows to published ports", e))
}

/// The first direction of every such flow, as the attribute that names it.
fn flows(socket: &Socket, targets: &HashSet<(Ipv4Addr, u16)>) -> io::Result<Vec<Vec<u8>>> {
    send(socket, request(LIST, NLM_F_DUMP))?;
    let mut found = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&answer) {
            if kind == TYPE_DONE {
                return Ok(found);
            }
            if let Some(e) = error_of(kind, body) {
                return Err(e);
            }
            let attributes = body.get(GENERIC.len()..).unwrap_or_default();
            let Some((tuple, whole)) = attribute(attributes, TUPLE_ORIG) else { continue };
            if target(tuple).is_some_and(|target| targets.contains(&target)) {
                found.push(whole.to_vec());
            }
        }
    }
}

/// Where a flow of datagrams goes; `None` for those of other protocols.
fn target(tuple: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let (addresses, _) = attribute(tuple, TUPLE_IP)?;
    let (protocol, _) = attribute(tuple, TUPLE_PROTO)?;
    if attribute(protocol, PROTO_NUM)?.0 != [UDP] {
        return None;
    }
    let address: [u8; 4] = attribute(addresses, IP_V4_DST)?.0.try_into().ok()?;
    let port: [u8; 2] = attribute(protocol, PROTO_DST_PORT)?.0.try_into().ok()?;
    Some((address.into(), u16::from_be_bytes(port)))
}

fn request(kind: u16, flags: u16) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    message.extend(GENERIC);
    message
}

fn send(socket: &Socket, mut message: Vec<u8>) -> io::Result<()> {
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    socket.send(&message, 0).map(drop)
}

/// The messages of a datagram, each as its type and what follows its header.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let message = bytes.get(..length)?;
        let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, message.get(HEADER..)?))
    })
}

/// The refusal that a message tells, if it does.
fn error_of(kind: u16, body: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    (kind == TYPE_ERROR && code != 0).then(|| io::Error::from_raw_os_error(-code))
}

/// An attribute's content, and the whole of it with its header and padding.
fn attribute(mut bytes: &[u8], wanted: u16) -> Option<(&[u8], &[u8])> {
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let padded = length.next_multiple_of(4);
        if kind == wanted {
            return Some((bytes.get(4..length)?, bytes.get(..padded)?));
        }
        bytes = bytes.get(padded.max(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(kind: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = ((content.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn reads_where_a_flow_goes() {
        let nested = 0x8000;
        let addresses = [encode(1, &[10, 0, 0, 1]), encode(IP_V4_DST, &[198, 51, 100, 1])].concat();
        let protocol =
            [encode(PROTO_NUM, &[UDP]), encode(2, &[0, 7]), encode(PROTO_DST_PORT, &[0, 53])].concat();
        let tuple = [encode(TUPLE_IP | nested, &addresses), encode(TUPLE_PROTO | nested, &protocol)].concat();
        assert_eq!(target(&tuple), Some((Ipv4Addr::new(198, 51, 100, 1), 53)));
        for length in 0..tuple.len() {
            assert!(target(&tuple[..length]).is_none_or(|target| target.1 == 53), "cut off at {length}");
        }
    }

    #[test]
    fn messages_that_are_cut_off_end_the_list() {
        let mut message = request(LIST, 0);
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
        let two = [message.clone(), message.clone()].concat();
        assert_eq!(messages(&two).map(|(kind, _)| kind).collect::<Vec<_>>(), [LIST, LIST]);
        assert_eq!(messages(&two[..two.len() - 1]).count(), 1);
        assert_eq!(messages(&[0; 64]).count(), 0, "a length of nothing");
    }
}
