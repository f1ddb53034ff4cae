//! What a supervisor and its clients say to each other.
//!
//! Every connection is a `SOCK_SEQPACKET` socket: one JSON message a packet, descriptors beside it. Bodies without a
//! natural bound (a spec, a process with its environment) travel in a memfd, so that no packet grows past the
//! socket's buffer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::SetupError;
use crate::health::HealthStatus;

/// The largest message in bytes; all of them are short, see the module's head.
const MESSAGE_MAX: usize = 16 * 1024;
/// The largest body in a memfd, in bytes.
const BODY_MAX: u64 = 32 * 1024 * 1024;
/// The most descriptors beside a message.
const DESCRIPTORS_MAX: usize = 8;

/// From a client to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Make the container. Descriptors: the spec's memfd, then those of the namespaces that it joins ([`Joined`]), then
    /// those of `io`. Only as the launcher's first message.
    ///
    /// [`Joined`]: crate::Joined
    Launch { io: LaunchIo },
    /// The network stands: run the first process. The descriptors beside are held to the container's end; with
    /// `network` the first of them is what keeps its network. Only from the launcher.
    Proceed { network: bool },
    /// Send a copy of the descriptor that keeps the network.
    Held,
    /// Send descriptors by which others join the container's namespaces, or put an interface into its network's.
    Namespaces,
    /// Answer DNS queries from now on as the [`DnsConfig`] in the memfd beside says.
    ///
    /// [`DnsConfig`]: crate::spec::DnsConfig
    Resolve,
    /// Send a signal to the first process, or, after `Exec` on this connection, to all processes of that exec. After the
    /// `last` one the container is not restarted.
    Signal {
        number: i32,
        #[serde(default)]
        last: bool,
    },
    /// Run a process in the container. Descriptors: the memfd of an [`ExecBody`], then standard input, output and
    /// error; with a terminal, one stream socket that carries both ways.
    Exec,
    /// Set the terminal's size, of the exec on this connection if there was one.
    Resize { rows: u16, columns: u16 },
    /// Freeze every process.
    Pause,
    /// Let them go on.
    Unpause,
    /// Set other limits and another restart policy. Descriptor: the memfd of an [`UpdateBody`].
    Update,
    /// Copy the first process's output to, and its input from, the stream socket passed beside.
    Attach { output: bool, input: bool },
    /// Tell when the first process has ended.
    Wait,
    /// Tell the container's health now, at every change, and the first process's end.
    Watch,
    /// Tell of each end of a first process, of each that follows it, and of each change of the container's health. The
    /// last end is followed by the connection's.
    Follow,
}

/// How the first process's standard streams are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LaunchIo {
    /// To the log and to attached clients.
    Supervised,
    /// As before, with one client attached from the first byte on: its stream socket is the descriptor beside.
    Attached,
    /// To the three descriptors beside; nothing is logged.
    Direct,
}

/// The body of an exec request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecBody {
    pub(crate) process: crate::spec::Process,
    pub(crate) privileged: bool,
}

/// The body of an update request: what is to be from now on, all of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UpdateBody {
    pub(crate) resources: crate::spec::Resources,
    pub(crate) restart: crate::restart::RestartPolicy,
}

/// From the supervisor to a client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The container's network namespace is the descriptor beside; it waits for `Proceed`.
    NetworkReady,
    /// The process runs.
    Started { pid: i32, warnings: Vec<String> },
    /// It could not be started.
    Failed(SetupError),
    /// The first process, or the exec on this connection, has ended.
    Exited { code: i32, oom_killed: bool },
    /// Whether the container works.
    Health { status: HealthStatus },
    /// Done.
    Ok,
    /// It could not be started because the first process has ended.
    NotRunning,
    /// What was asked for by `Held` is the descriptor beside; none if there is none.
    Held,
    /// What was asked for by `Namespaces`: the first process's pidfd, if there is one now, then its network namespace.
    Namespaces { init: bool },
    /// The request makes no sense now.
    Refused { reason: String },
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Connection(OwnedFd);

impl Connection {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Two connected ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(a), Self(b)))
    }

    /// Sends one message with descriptors.
    pub(crate) fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MESSAGE_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        rustix::net::sendmsg(&self.0, &[io::IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Takes the next message; `None` once the other end is closed. Blocks if there is none yet.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = [0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let mut parts = [io::IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => break message.bytes,
                // The other end closed without having read all. This is told once, before what it had sent itself,
                // which is still in the queue.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(e) => return Err(e.into()),
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let descriptors = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        Ok(Some((serde_json::from_slice(&bytes[..length])?, descriptors)))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> Self {
        connection.0
    }
}

/// Puts a body into a memfd.
pub(crate) fn write_body(body: &impl Serialize) -> io::Result<OwnedFd> {
    let mut file = File::from(rustix::fs::memfd_create("lighter", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(body)?)?;
    Ok(file.into())
}

/// Reads a body back.
pub(crate) fn read_body<T: DeserializeOwned>(memfd: OwnedFd) -> io::Result<T> {
    let mut file = File::from(memfd);
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(BODY_MAX).read_to_end(&mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_survive_a_close_with_unread_messages() {
        let (a, b) = Connection::pair().unwrap();
        b.send(&Request::Wait, &[]).unwrap();
        a.send(&Request::Signal { number: 9, last: true }, &[]).unwrap();
        drop(a);
        assert!(matches!(
            b.receive::<Request>().unwrap(),
            Some((Request::Signal { number: 9, last: true }, _))
        ));
        assert!(b.receive::<Request>().unwrap().is_none());
    }

    #[test]
    fn carries_messages_and_descriptors() {
        let (a, b) = Connection::pair().unwrap();
        let body = write_body(&vec!["x".repeat(500_000)]).unwrap();
        a.send(&Request::Signal { number: 15, last: false }, &[]).unwrap();
        a.send(&Request::Exec, &[body.as_fd()]).unwrap();
        drop(a);
        let (first, fds) = b.receive::<Request>().unwrap().unwrap();
        assert!(matches!(first, Request::Signal { number: 15, last: false }) && fds.is_empty());
        let (second, mut fds) = b.receive::<Request>().unwrap().unwrap();
        assert!(matches!(second, Request::Exec));
        let body: Vec<String> = read_body(fds.remove(0)).unwrap();
        assert_eq!(body[0].len(), 500_000);
        assert!(b.receive::<Request>().unwrap().is_none());
    }
}
