//! A synchronous rtnetlink socket: several requests go out in one send, and their acknowledgements are read
//! together, so that a batch costs one round trip.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::io::Errno;

use engine_types::ErrorKind;

use crate::IfName;

/// Create, and fail where the object exists.
pub(crate) const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// Create, or set an existing object to what is asked.
pub(crate) const ENSURE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
/// Change what exists.
pub(crate) const CHANGE: u16 = 0;
/// Netlink messages start at multiples of four bytes (linux/netlink.h, `NLMSG_ALIGNTO`).
const ALIGNMENT: usize = 4;
/// How often a dump is repeated that the kernel cut short because the listed objects changed meanwhile.
const DUMP_ATTEMPTS: usize = 8;

/// A change that the kernel refused, or a netlink socket that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct NetlinkError {
    /// What was asked, naming the object: `create bridge ltc0ffee`.
    pub step: String,
    /// The kernel's answer.
    #[source]
    pub source: io::Error,
}

impl NetlinkError {
    pub(crate) fn new(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { step: step.into(), source: source.into() }
    }

    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match Errno::from_io_error(&self.source) {
            Some(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::AFNOSUPPORT) => {
                ErrorKind::Unsupported
            }
            Some(Errno::EXIST | Errno::BUSY) => ErrorKind::Conflict,
            Some(Errno::NODEV) => ErrorKind::NotFound,
            _ => ErrorKind::Internal,
        }
    }

    pub(crate) fn is(&self, errno: Errno) -> bool {
        Errno::from_io_error(&self.source) == Some(errno)
    }
}

/// One message of a batch, and what it is for.
pub(crate) struct Request {
    step: String,
    flags: u16,
    message: RouteNetlinkMessage,
}

impl Request {
    pub(crate) fn new(step: impl Into<String>, flags: u16, message: RouteNetlinkMessage) -> Self {
        Self { step: step.into(), flags, message }
    }
}

/// A socket bound to the network namespace that its thread was in when it was opened.
pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // An acknowledgement need not repeat the request.
            socket.set_cap_ack(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|e: io::Error| NetlinkError::new("open a netlink socket", e))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Applies one change.
    pub(crate) fn apply(&mut self, request: Request) -> Result<(), NetlinkError> {
        self.apply_all(vec![request])
    }

    /// Applies the changes in order and returns the first refusal.
    ///
    /// The kernel goes on to the next message after one that it refused, so a message whose success the others
    /// take for granted goes alone.
    pub(crate) fn apply_all(&mut self, requests: Vec<Request>) -> Result<(), NetlinkError> {
        let mut buffer = Vec::new();
        let first = self.sequence.wrapping_add(1);
        let mut steps = Vec::with_capacity(requests.len());
        for request in requests {
            self.encode(request.message, NLM_F_ACK | request.flags, &mut buffer);
            steps.push(request.step);
        }
        let failed = |step: &String, e: io::Error| NetlinkError::new(step.as_str(), e);
        let Some(first_step) = steps.first() else { return Ok(()) };
        self.socket.send(&buffer, 0).map_err(|e| failed(first_step, e))?;
        let mut refusal: Option<NetlinkError> = None;
        let mut acknowledged = 0;
        while acknowledged < steps.len() {
            let step = &steps[acknowledged];
            for message in self.receive().map_err(|e| failed(step, e))? {
                let index = message.header.sequence_number.wrapping_sub(first) as usize;
                let (Some(step), NetlinkPayload::Error(answer)) = (steps.get(index), message.payload) else {
                    continue;
                };
                acknowledged += 1;
                if answer.code.is_some() && refusal.is_none() {
                    refusal = Some(failed(step, answer.to_io()));
                }
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Asks for one object.
    pub(crate) fn get(
        &mut self,
        step: &str,
        message: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage, NetlinkError> {
        let failed = |e: io::Error| NetlinkError::new(step, e);
        let mut buffer = Vec::new();
        let sequence = self.encode(message, 0, &mut buffer);
        self.socket.send(&buffer, 0).map_err(failed)?;
        loop {
            for message in self.receive().map_err(failed)? {
                if message.header.sequence_number != sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => return Ok(inner),
                    NetlinkPayload::Error(answer) => return Err(failed(answer.to_io())),
                    _ => {}
                }
            }
        }
    }

    /// Asks for the interface of this name; `None` where there is none.
    pub(crate) fn link(&mut self, name: &IfName) -> Result<Option<LinkMessage>, NetlinkError> {
        let step = format!("look up interface {name}");
        match self.get(&step, RouteNetlinkMessage::GetLink(link_named(name, []))) {
            Ok(RouteNetlinkMessage::NewLink(link)) => Ok(Some(link)),
            Ok(_) => Err(NetlinkError::new(step, io::Error::from(io::ErrorKind::InvalidData))),
            Err(e) if e.is(Errno::NODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Asks for all objects of a kind.
    pub(crate) fn dump(
        &mut self,
        step: &str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(objects) = self.dump_once(step, message.clone())? {
                return Ok(objects);
            }
        }
        Err(NetlinkError::new(step, Errno::AGAIN))
    }

    /// Returns `None` where the objects changed while the kernel listed them.
    fn dump_once(
        &mut self,
        step: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>, NetlinkError> {
        let failed = |e: io::Error| NetlinkError::new(step, e);
        let mut buffer = Vec::new();
        let sequence = self.encode(message, NLM_F_DUMP, &mut buffer);
        self.socket.send(&buffer, 0).map_err(failed)?;
        let mut objects = Vec::new();
        let mut interrupted = false;
        loop {
            for message in self.receive().map_err(failed)? {
                if message.header.sequence_number != sequence {
                    continue;
                }
                interrupted |= message.header.flags & netlink_packet_core::NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => objects.push(inner),
                    NetlinkPayload::Error(answer) => return Err(failed(answer.to_io())),
                    NetlinkPayload::Done(_) => return Ok((!interrupted).then_some(objects)),
                    _ => {}
                }
            }
        }
    }

    fn encode(&mut self, message: RouteNetlinkMessage, flags: u16, buffer: &mut Vec<u8>) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let start = buffer.len();
        buffer.resize(start + packet.buffer_len().next_multiple_of(ALIGNMENT), 0);
        packet.serialize(&mut buffer[start..start + packet.buffer_len()]);
        self.sequence
    }

    fn receive(&self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let (datagram, _) = loop {
            match self.socket.recv_from_full() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        let mut messages = Vec::new();
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            let length = (message.header.length as usize).next_multiple_of(ALIGNMENT);
            rest = rest.get(length.max(ALIGNMENT)..).unwrap_or_default();
            messages.push(message);
        }
        Ok(messages)
    }
}

/// A link message that means the interface of this name.
pub(crate) fn link_named(name: &IfName, attributes: impl IntoIterator<Item = LinkAttribute>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_string()));
    link.attributes.extend(attributes);
    link
}

/// A request to bring the interface of this name up.
pub(crate) fn up(name: &IfName) -> Request {
    let mut link = link_named(name, []);
    link.header.flags = netlink_packet_route::link::LinkFlags::Up;
    link.header.change_mask = netlink_packet_route::link::LinkFlags::Up;
    Request::new(format!("bring interface {name} up"), CHANGE, RouteNetlinkMessage::SetLink(link))
}

/// A request to delete the interface of this name.
pub(crate) fn delete(name: &IfName) -> Request {
    Request::new(
        format!("delete interface {name}"),
        CHANGE,
        RouteNetlinkMessage::DelLink(link_named(name, [])),
    )
}
