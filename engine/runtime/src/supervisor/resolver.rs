//! The sockets of the DNS responder: it listens inside the container's network namespace and passes on, from the
//! host's, what it cannot answer.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, sockopt};
use rustix::thread::LinkNameSpaceType;

use crate::dns::{self, CONTAINER_RESOLVER, Lookup, Names, Outcome, Transport};
use crate::error::{Context, SetupError, Step};
use crate::spec::DnsConfig;

const PORT: u16 = 53;
/// Queries that wait for the host's resolvers at once; more are dropped, which clients take for loss and ask again.
const PENDING_MAX: usize = 512;
/// How long one of the host's resolvers may take before the next is asked; glibc's clients give up after 5 s.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections over TCP at once.
const STREAMS_MAX: usize = 64;
/// The longest message and its length (RFC 1035, section 4.2.2).
const MESSAGE_MAX: usize = 2 + u16::MAX as usize;
const BACKLOG: i32 = 16;

/// Answers for one container.
#[derive(Debug)]
pub(super) struct Resolver {
    config: DnsConfig,
    udp: OwnedFd,
    tcp: OwnedFd,
    pending: Vec<Pending>,
    streams: Vec<Stream>,
}

/// A query over UDP that the host's resolvers have.
#[derive(Debug)]
struct Pending {
    socket: OwnedFd,
    client: SocketAddrAny,
    query: Vec<u8>,
    /// Which of the host's resolvers has it.
    upstream: usize,
    deadline: Instant,
}

/// A client's connection over TCP, and, once a query had to be passed on, the one to the host's resolver.
#[derive(Debug)]
struct Stream {
    client: OwnedFd,
    received: Vec<u8>,
    to_client: VecDeque<u8>,
    upstream: Option<OwnedFd>,
    to_upstream: VecDeque<u8>,
}

/// What became ready.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ready {
    Udp,
    Listener,
    Pending(usize),
    Client(usize),
    Upstream(usize),
}

impl Resolver {
    /// Listens in a network namespace whose loopback is up.
    pub(super) fn listen(config: &DnsConfig, inside: BorrowedFd<'_>) -> Result<Self, SetupError> {
        let listen = || {
            let own = open_namespace(Path::new("/proc/self/ns/net"))?;
            let network = Some(LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(inside, network)?;
            let sockets = sockets();
            rustix::thread::move_into_link_name_space(own.as_fd(), network)?;
            sockets
        };
        let (udp, tcp) = listen().step(Step::Dns)?;
        Ok(Self { config: config.clone(), udp, tcp, pending: Vec::new(), streams: Vec::new() })
    }

    /// Answers as this configuration says from now on.
    pub(super) fn configure(&mut self, config: DnsConfig) {
        self.config = config;
    }

    /// What to wait for now.
    pub(super) fn interests(&self) -> Vec<(BorrowedFd<'_>, PollFlags, Ready)> {
        let mut out = vec![(self.udp.as_fd(), PollFlags::IN, Ready::Udp)];
        if self.streams.len() < STREAMS_MAX {
            out.push((self.tcp.as_fd(), PollFlags::IN, Ready::Listener));
        }
        out.extend(
            self.pending
                .iter()
                .enumerate()
                .map(|(n, p)| (p.socket.as_fd(), PollFlags::IN, Ready::Pending(n))),
        );
        for (n, stream) in self.streams.iter().enumerate() {
            out.push((stream.client.as_fd(), flags(&stream.to_client), Ready::Client(n)));
            let upstream = stream.upstream.as_ref();
            out.extend(upstream.map(|fd| (fd.as_fd(), flags(&stream.to_upstream), Ready::Upstream(n))));
        }
        out
    }

    /// When [`Resolver::expire`] is due, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|p| p.deadline).min()
    }

    /// Asks the next resolver for every query whose resolver took too long.
    pub(super) fn expire(&mut self, now: Instant) {
        for n in (0..self.pending.len()).rev() {
            if self.pending[n].deadline <= now {
                let late = self.pending.remove(n);
                self.pass_on(late.query, late.client, late.upstream + 1);
            }
        }
    }

    /// Does what became possible. An index may have shifted since [`Resolver::interests`]: nothing here blocks, so the
    /// wrong socket is merely found not to be ready.
    pub(super) fn handle(&mut self, ready: Ready) {
        match ready {
            Ready::Udp => self.take_datagram(),
            Ready::Listener => self.accept(),
            Ready::Pending(n) => self.take_reply(n),
            Ready::Client(n) => self.serve_stream(n),
            Ready::Upstream(n) => self.relay_stream(n),
        }
    }

    fn take_datagram(&mut self) {
        let mut buffer = [0; MESSAGE_MAX];
        let Ok((length, _, Some(client))) = rustix::net::recvfrom(&self.udp, &mut buffer, RecvFlags::empty())
        else {
            return; // gone again, as poll(2) warns
        };
        match dns::answer(&buffer[..length], &self.names(), Transport::Udp) {
            Outcome::Reply(reply) => self.reply(&reply, &client),
            Outcome::Forward => self.pass_on(buffer[..length].to_vec(), client, 0),
            Outcome::Drop => {}
        }
    }

    /// Sends a query to a resolver of the host, or, when all have been tried, the client a failure.
    fn pass_on(&mut self, query: Vec<u8>, client: SocketAddrAny, first: usize) {
        if self.pending.len() >= PENDING_MAX {
            return;
        }
        for (number, address) in self.config.upstream.iter().enumerate().skip(first) {
            let send = || {
                let socket = open_socket(*address, SocketType::DGRAM)?;
                rustix::net::connect(&socket, address)?;
                rustix::net::send(&socket, &query, SendFlags::empty())?;
                Ok::<_, Errno>(socket)
            };
            if let Ok(socket) = send() {
                let deadline = Instant::now() + UPSTREAM_TIMEOUT;
                return self.pending.push(Pending { socket, client, query, upstream: number, deadline });
            }
        }
        if let Some(failure) = dns::server_failure(&query) {
            self.reply(&failure, &client);
        }
    }

    fn take_reply(&mut self, n: usize) {
        let Some(pending) = self.pending.get(n) else { return };
        let mut buffer = [0; MESSAGE_MAX];
        match rustix::net::recv(&pending.socket, &mut buffer, RecvFlags::empty()).map(|(length, _)| length) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A socket that is connected takes datagrams of that resolver alone; the id tells its queries apart.
            Ok(length) if length >= 2 && buffer[..2] == pending.query[..2] => {
                let pending = self.pending.remove(n);
                self.reply(&buffer[..length], &pending.client);
            }
            Ok(_) => {}
            // Nobody listens there.
            Err(_) => {
                let failed = self.pending.remove(n);
                self.pass_on(failed.query, failed.client, failed.upstream + 1);
            }
        }
    }

    fn reply(&self, message: &[u8], client: &SocketAddrAny) {
        // A client that is gone, or whose buffer is full, asks again.
        let _ = rustix::net::sendto(&self.udp, message, SendFlags::DONTWAIT, client);
    }

    fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(client) = rustix::net::accept_with(&self.tcp, flags) {
            let (received, to_client) = (Vec::new(), VecDeque::new());
            self.streams.push(Stream {
                client,
                received,
                to_client,
                upstream: None,
                to_upstream: VecDeque::new(),
            });
        }
    }

    fn serve_stream(&mut self, n: usize) {
        let names = self.names();
        let Some(stream) = self.streams.get_mut(n) else { return };
        if stream.serve(&names, &self.config.upstream).is_err() {
            self.streams.remove(n);
        }
    }

    fn relay_stream(&mut self, n: usize) {
        let Some(stream) = self.streams.get_mut(n) else { return };
        if stream.relay().is_err() {
            self.streams.remove(n);
        }
    }

    /// The names of the container's networks now. The files are short, replaced by rename, and read at every query,
    /// so a container that has just started is known at once.
    fn names(&self) -> AllNames {
        let read = |path| fs::read_to_string(path).ok().and_then(|text| Names::parse(&text).ok());
        AllNames {
            networks: self.config.names.iter().filter_map(read).collect(),
            aliases: self.config.aliases.clone(),
        }
    }
}

/// The names of all networks that a container is on.
struct AllNames {
    networks: Vec<Names>,
    /// Names that stand for others.
    aliases: BTreeMap<String, String>,
}

impl Lookup for AllNames {
    fn addresses(&self, name: &str) -> Vec<std::net::Ipv4Addr> {
        let name = self.aliases.get(name).map_or(name, String::as_str);
        self.networks.iter().flat_map(|names| names.addresses(name)).collect()
    }

    fn name_of(&self, address: std::net::Ipv4Addr) -> Option<&str> {
        self.networks.iter().find_map(|names| names.name_of(address))
    }
}

impl Stream {
    /// Takes queries and sends what is there to send; an error ends the connection.
    fn serve(&mut self, names: &AllNames, upstream: &[SocketAddr]) -> Result<(), Errno> {
        read_some(&self.client, |bytes| self.received.extend_from_slice(bytes))?;
        while let Some(length) = message_length(&self.received) {
            let message: Vec<u8> = self.received.drain(..length).collect();
            match dns::answer(&message[2..], names, Transport::Tcp) {
                Outcome::Reply(reply) => {
                    self.to_client.extend((reply.len() as u16).to_be_bytes());
                    self.to_client.extend(reply);
                }
                Outcome::Forward => {
                    if self.upstream.is_none() {
                        self.upstream = Some(connect_stream(upstream)?);
                    }
                    self.to_upstream.extend(message);
                }
                Outcome::Drop => return Err(Errno::PROTO),
            }
        }
        write_some(&self.client, &mut self.to_client)
    }

    /// Copies between the host's resolver and the client.
    fn relay(&mut self) -> Result<(), Errno> {
        let Some(upstream) = &self.upstream else { return Ok(()) };
        write_some(upstream, &mut self.to_upstream)?;
        read_some(upstream, |bytes| self.to_client.extend(bytes))?;
        write_some(&self.client, &mut self.to_client)
    }
}

fn sockets() -> Result<(OwnedFd, OwnedFd), Errno> {
    let address = SocketAddrV4::new(CONTAINER_RESOLVER, PORT);
    let udp = open_socket(address.into(), SocketType::DGRAM)?;
    sockopt::set_socket_reuseaddr(&udp, true)?;
    rustix::net::bind(&udp, &address)?;
    let tcp = open_socket(address.into(), SocketType::STREAM)?;
    sockopt::set_socket_reuseaddr(&tcp, true)?;
    rustix::net::bind(&tcp, &address)?;
    rustix::net::listen(&tcp, BACKLOG)?;
    Ok((udp, tcp))
}

fn open_namespace(path: &Path) -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn open_socket(address: SocketAddr, kind: SocketType) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

/// Begins to connect to the first resolver that can be tried.
fn connect_stream(upstream: &[SocketAddr]) -> Result<OwnedFd, Errno> {
    let mut last = Errno::HOSTUNREACH;
    for address in upstream {
        let socket = open_socket(*address, SocketType::STREAM)?;
        match rustix::net::connect(&socket, address) {
            Ok(()) | Err(Errno::INPROGRESS) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn flags(outgoing: &VecDeque<u8>) -> PollFlags {
    if outgoing.is_empty() { PollFlags::IN } else { PollFlags::IN | PollFlags::OUT }
}

/// The length of the first message with its two bytes of length, if it is there whole.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let length = 2 + usize::from(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]));
    (bytes.len() >= length).then_some(length)
}

fn read_some(socket: &OwnedFd, mut take: impl FnMut(&[u8])) -> Result<(), Errno> {
    let mut buffer = [0; MESSAGE_MAX];
    match rustix::net::recv(socket, &mut buffer, RecvFlags::empty()).map(|(length, _)| length) {
        Ok(0) => Err(Errno::PIPE),
        Ok(length) => {
            take(&buffer[..length]);
            Ok(())
        }
        Err(Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(e) => Err(e),
    }
}

fn write_some(socket: &OwnedFd, bytes: &mut VecDeque<u8>) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes.as_slices().0, SendFlags::NOSIGNAL) {
            Ok(length) => drop(bytes.drain(..length)),
            Err(Errno::AGAIN | Errno::NOTCONN) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
