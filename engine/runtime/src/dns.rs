//! What a container's resolver at 127.0.0.11 answers, without the sockets: bytes in, bytes out.
//!
//! Only names and addresses of the container's own network are answered here; every other question goes on to
//! the host's resolvers as it came. The message format (RFC 1035, section 4.1) is read by hand: a reply repeats
//! the question's own bytes and refers to its name, so one question and one kind of record are all there is to
//! it, questions of unknown types must pass unharmed, and the supervisor must stay small.

mod names;
mod resolv_conf;

use std::net::Ipv4Addr;

pub use names::{Names, ParseNamesError};
pub use resolv_conf::{CONTAINER_RESOLVER, ResolvConf, container_resolv_conf, parse_resolv_conf};

/// How long a resolver may keep an answer, in seconds (moby, `libnetwork/resolver.go`, `respTTL`).
const TTL_SECONDS: u32 = 600;
/// The longest UDP message without EDNS, in bytes (RFC 1035, section 4.2.1).
const UDP_MAX: usize = 512;
/// The longest UDP message that we send or offer to receive, in bytes: fragments never (DNS flag day 2020).
const EDNS_UDP_MAX: u16 = 1232;
/// The longest message over TCP, in bytes: its length is sent in two (RFC 1035, section 4.2.2).
const TCP_MAX: usize = u16::MAX as usize;
const HEADER_LEN: usize = 12;
/// The longest name in its wire form, in bytes, and its longest label (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 255;
const LABEL_MAX: usize = 63;

const TYPE_A: u16 = 1;
const TYPE_PTR: u16 = 12;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// The second 16 bits of a header (RFC 1035, section 4.1.1).
const FLAG_RESPONSE: u16 = 0x8000;
const OPCODE_MASK: u16 = 0x7800;
const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const RCODE_FORMAT_ERROR: u16 = 1;
const RCODE_SERVER_FAILURE: u16 = 2;
const RCODE_NOT_IMPLEMENTED: u16 = 4;

/// A name in a reply that is the question's: a pointer to the end of the header (RFC 1035, section 4.1.4).
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, HEADER_LEN as u8];
const REVERSE_DOMAIN: &str = ".in-addr.arpa";

/// The names and addresses of one network.
pub trait Lookup {
    /// The addresses of a name, which is in lower case and has no trailing dot; none for an unknown name.
    fn addresses(&self, name: &str) -> Vec<Ipv4Addr>;

    /// The name of an address.
    fn name_of(&self, address: Ipv4Addr) -> Option<&str>;
}

/// What carried a query, which limits the reply's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram.
    Udp,
    /// A stream, without the length that precedes each message.
    Tcp,
}

/// What to do with a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Send this back.
    Reply(Vec<u8>),
    /// Pass the query on to the host's resolvers as it is.
    Forward,
    /// Do nothing: it is not a query.
    Drop,
}

/// Answers a query from the names of the network, if it is about them.
///
/// A name that the network knows has addresses and nothing else: questions of other types, `AAAA` first of
/// all, get an empty answer rather than the outside's "no such name". Several addresses come in an order that
/// changes from query to query.
pub fn answer(query: &[u8], names: &impl Lookup, transport: Transport) -> Outcome {
    let Some(header) = Header::parse(query) else { return Outcome::Drop };
    if header.flags & FLAG_RESPONSE != 0 {
        return Outcome::Drop;
    }
    if header.flags & OPCODE_MASK != 0 {
        return Outcome::Reply(header.error(RCODE_NOT_IMPLEMENTED));
    }
    let Some(question) = Question::parse(query).filter(|_| header.questions == 1) else {
        return Outcome::Reply(header.error(RCODE_FORMAT_ERROR));
    };
    let Some(records) = records(&question, header.id, names) else { return Outcome::Forward };
    match udp_size(query, &header, question.end) {
        Ok(offered) => {
            let limit = match transport {
                Transport::Udp => offered.map_or(UDP_MAX, |size| usize::from(size.min(EDNS_UDP_MAX))),
                Transport::Tcp => TCP_MAX,
            };
            let question = &query[HEADER_LEN..question.end];
            Outcome::Reply(reply(&header, question, &records, offered.is_some(), limit.max(UDP_MAX)))
        }
        Err(Malformed) => Outcome::Reply(header.error(RCODE_FORMAT_ERROR)),
    }
}

/// The reply to a query that nobody could answer: SERVFAIL. `None` for what is no query.
pub fn server_failure(query: &[u8]) -> Option<Vec<u8>> {
    let header = Header::parse(query)?;
    let question = Question::parse(query)?;
    let mut reply = header.reply(RCODE_SERVER_FAILURE, [1, 0, 0]).to_vec();
    reply.extend_from_slice(query.get(HEADER_LEN..question.end)?);
    Some(reply)
}

/// The records that answer a question; `None` where the network knows nothing of its name.
fn records(question: &Question, id: u16, names: &impl Lookup) -> Option<Vec<Vec<u8>>> {
    if question.class != CLASS_IN {
        return None;
    }
    let name = question.name.as_deref()?;
    if question.kind == TYPE_PTR
        && let Some(address) = reverse_address(name)
    {
        return Some(vec![record(TYPE_PTR, &encode_name(names.name_of(address)?)?)]);
    }
    let mut addresses = names.addresses(name);
    if addresses.is_empty() {
        return None;
    }
    if question.kind != TYPE_A {
        return Some(Vec::new());
    }
    let first = usize::from(id) % addresses.len();
    addresses.rotate_left(first);
    Some(addresses.iter().map(|address| record(TYPE_A, &address.octets())).collect())
}

/// A message that breaks off or contradicts itself.
struct Malformed;

struct Header {
    id: u16,
    flags: u16,
    questions: u16,
    /// Answers, authorities and additional records.
    records: usize,
}

impl Header {
    fn parse(message: &[u8]) -> Option<Self> {
        let field = |index: usize| read_u16(message, index * 2);
        let records = (3..6).map(|index| field(index).map(usize::from)).sum::<Option<usize>>()?;
        Some(Self { id: field(0)?, flags: field(1)?, questions: field(2)?, records })
    }

    /// A reply's header.
    fn reply(&self, flags: u16, [questions, answers, additional]: [u16; 3]) -> [u8; HEADER_LEN] {
        let repeated = self.flags & (OPCODE_MASK | FLAG_RECURSION_DESIRED);
        let flags = FLAG_RESPONSE | FLAG_RECURSION_AVAILABLE | repeated | flags;
        let mut header = [0; HEADER_LEN];
        for (bytes, field) in header.chunks_mut(2).zip([self.id, flags, questions, answers, 0, additional]) {
            bytes.copy_from_slice(&field.to_be_bytes());
        }
        header
    }

    /// A reply that says only what is wrong.
    fn error(&self, rcode: u16) -> Vec<u8> {
        self.reply(rcode, [0, 0, 0]).to_vec()
    }
}

struct Question {
    /// In lower case, without a trailing dot; `None` for one that text cannot tell from another (a dot or a
    /// byte that is not printable ASCII inside a label), which no network has.
    name: Option<String>,
    kind: u16,
    class: u16,
    /// Where the message's records begin.
    end: usize,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Self> {
        let mut labels = Vec::new();
        let mut position = HEADER_LEN;
        loop {
            let length = usize::from(*message.get(position)?);
            position += 1;
            if length == 0 {
                break;
            }
            // A pointer, too: the first name of a message has nothing to point at.
            if length > LABEL_MAX || position + length - HEADER_LEN >= NAME_MAX {
                return None;
            }
            labels.push(message.get(position..position + length)?);
            position += length;
        }
        let plain = |label: &&[u8]| label.iter().all(|b| b.is_ascii_graphic() && *b != b'.');
        let name = labels.iter().all(plain).then(|| {
            let text = labels.join(&b'.').to_ascii_lowercase();
            String::from_utf8_lossy(&text).into_owned()
        });
        let (kind, class) = (read_u16(message, position)?, read_u16(message, position + 2)?);
        Some(Self { name, kind, class, end: position + 4 })
    }
}

/// Looks for the UDP message size that an EDNS query offers to receive (RFC 6891, section 6.1.2).
fn udp_size(message: &[u8], header: &Header, start: usize) -> Result<Option<u16>, Malformed> {
    const TYPE_TO_DATA_LEN: usize = 8;
    let mut offered = None;
    let mut position = start;
    for _ in 0..header.records {
        position = skip_name(message, position).ok_or(Malformed)?;
        let field = |offset| read_u16(message, position + offset).ok_or(Malformed);
        if field(0)? == TYPE_OPT {
            offered = Some(field(2)?);
        }
        position += TYPE_TO_DATA_LEN + 2 + usize::from(field(TYPE_TO_DATA_LEN)?);
        if position > message.len() {
            return Err(Malformed);
        }
    }
    Ok(offered)
}

fn skip_name(message: &[u8], mut position: usize) -> Option<usize> {
    const POINTER_MASK: usize = 0xc0;
    loop {
        let length = usize::from(*message.get(position)?);
        match length {
            0 => return Some(position + 1),
            _ if length & POINTER_MASK == POINTER_MASK => return Some(position + POINTER_TO_QUESTION.len()),
            _ if length > LABEL_MAX => return None,
            _ => position += 1 + length,
        }
    }
}

/// Puts a reply together; records that do not fit are left out and the reply says so.
fn reply(header: &Header, question: &[u8], records: &[Vec<u8>], edns: bool, limit: usize) -> Vec<u8> {
    let opt = if edns { opt_record() } else { Vec::new() };
    let mut body = question.to_vec();
    let mut answers: u16 = 0;
    for record in records {
        if HEADER_LEN + body.len() + record.len() + opt.len() > limit {
            break;
        }
        body.extend_from_slice(record);
        answers += 1;
    }
    let flags = if usize::from(answers) < records.len() { FLAG_TRUNCATED } else { 0 };
    let head = header.reply(flags, [1, answers, u16::from(edns)]);
    [&head[..], &body, &opt].concat()
}

/// A record about the question's name.
fn record(kind: u16, data: &[u8]) -> Vec<u8> {
    let mut record = POINTER_TO_QUESTION.to_vec();
    record.extend(kind.to_be_bytes());
    record.extend(CLASS_IN.to_be_bytes());
    record.extend(TTL_SECONDS.to_be_bytes());
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

/// The root's name, the type, our UDP size in place of the class, no flags, no options.
fn opt_record() -> Vec<u8> {
    let mut record = vec![0];
    record.extend(TYPE_OPT.to_be_bytes());
    record.extend(EDNS_UDP_MAX.to_be_bytes());
    record.extend([0; 6]);
    record
}

/// A name's wire form; `None` where it has none.
fn encode_name(name: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_MAX {
            return None;
        }
        wire.push(label.len() as u8);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    (wire.len() <= NAME_MAX).then_some(wire)
}

/// Reads `2.0.18.172.in-addr.arpa` as 172.18.0.2.
fn reverse_address(name: &str) -> Option<Ipv4Addr> {
    let reversed: Ipv4Addr = name.strip_suffix(REVERSE_DOMAIN)?.parse().ok()?;
    let [d, c, b, a] = reversed.octets();
    Some(Ipv4Addr::new(a, b, c, d))
}

fn read_u16(message: &[u8], position: usize) -> Option<u16> {
    let bytes = message.get(position..position.checked_add(2)?)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests;
