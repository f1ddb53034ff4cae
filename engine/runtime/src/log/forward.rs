//! Lines on their way to the host's own logs, as well as to the file.
//!
//! What cannot be sent is lost there, not in the file: a syslog server that is away must not stop a container.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::Stream;

/// Where journald takes entries (systemd.io/JOURNAL_NATIVE_PROTOCOL).
const JOURNAL: &str = "/run/systemd/journal/socket";
/// How long a syslog server may take to answer, or to take a line.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Severities of syslog and journald (RFC 5424, 6.2.1).
const INFORMATIONAL: u8 = 6;
const ERROR: u8 = 3;

/// Where lines go besides the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forward {
    /// A syslog daemon.
    Syslog(Syslog),
    /// The systemd journal; the fields are added to each entry.
    Journald {
        /// Names of capital letters, digits and underscores, and values.
        fields: Vec<(String, String)>,
    },
}

/// How a syslog daemon is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syslog {
    /// Where it listens.
    pub address: SyslogAddress,
    /// The facility's number (RFC 5424, 6.2.1).
    pub facility: u8,
    /// How a line is written.
    pub format: SyslogFormat,
    /// What names the container.
    pub tag: String,
    /// What names this host.
    pub hostname: String,
}

/// Where a syslog daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogAddress {
    /// At a socket of this host.
    Unix(PathBuf),
    /// By UDP.
    Udp(SocketAddr),
    /// By TCP.
    Tcp(SocketAddr),
}

/// How a line is written for a syslog daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyslogFormat {
    /// As the C library writes to a daemon of the same host: no host name.
    Local,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, with seconds.
    Rfc5424,
    /// RFC 5424, with microseconds.
    Rfc5424Micro,
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journald { .. } => write!(f, "journald at {JOURNAL}"),
            Self::Syslog(Syslog { address: SyslogAddress::Unix(path), .. }) => {
                write!(f, "syslog at unix://{}", path.display())
            }
            Self::Syslog(Syslog { address: SyslogAddress::Udp(to), .. }) => write!(f, "syslog at udp://{to}"),
            Self::Syslog(Syslog { address: SyslogAddress::Tcp(to), .. }) => write!(f, "syslog at tcp://{to}"),
        }
    }
}

/// An open way there.
#[derive(Debug)]
pub(super) struct Forwarder {
    to: Forward,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    Datagram(UnixDatagram),
    Stream(UnixStream),
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Forwarder {
    /// Fails if nobody listens there.
    pub(super) fn open(to: &Forward) -> io::Result<Self> {
        let socket = match to {
            Forward::Journald { .. } => datagram(Path::new(JOURNAL))?,
            Forward::Syslog(syslog) => match &syslog.address {
                SyslogAddress::Unix(path) => datagram(path).or_else(|_| stream(path))?,
                SyslogAddress::Udp(address) => {
                    let any: SocketAddr = match address {
                        SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
                        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
                    };
                    let socket = UdpSocket::bind(any)?;
                    socket.connect(address)?;
                    Socket::Udp(socket)
                }
                SyslogAddress::Tcp(address) => {
                    let socket = TcpStream::connect_timeout(address, TIMEOUT)?;
                    socket.set_write_timeout(Some(TIMEOUT))?;
                    Socket::Tcp(socket)
                }
            },
        };
        Ok(Self { to: to.clone(), socket })
    }

    /// Sends a line, without its newline.
    pub(super) fn send(&mut self, stream: Stream, line: &[u8]) {
        let severity = if stream == Stream::Stderr { ERROR } else { INFORMATIONAL };
        let message = match &self.to {
            Forward::Journald { fields } => journal_entry(fields, severity, line),
            Forward::Syslog(syslog) => syslog.message(severity, line, Timestamp::now()),
        };
        let _ = self.socket.send(&message); // see the module's head
    }
}

impl Socket {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        use std::io::Write;
        // A stream needs to be told where a message ends.
        let framed = || [message, b"\n"].concat();
        match self {
            Self::Datagram(socket) => socket.send(message).map(drop),
            Self::Udp(socket) => socket.send(message).map(drop),
            Self::Stream(socket) => socket.write_all(&framed()),
            Self::Tcp(socket) => socket.write_all(&framed()),
        }
    }
}

fn datagram(path: &Path) -> io::Result<Socket> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(Socket::Datagram(socket))
}

fn stream(path: &Path) -> io::Result<Socket> {
    let socket = UnixStream::connect(path)?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(Socket::Stream(socket))
}

impl Syslog {
    fn message(&self, severity: u8, line: &[u8], time: Timestamp) -> Vec<u8> {
        let priority = u16::from(self.facility) * 8 + u16::from(severity);
        let Self { tag, hostname, .. } = self;
        let pid = std::process::id();
        let local = || time.to_zoned_datetime(TimeZone::system()).strftime("%b %e %H:%M:%S").to_string();
        let head = match self.format {
            SyslogFormat::Local => format!("<{priority}>{} {tag}[{pid}]: ", local()),
            SyslogFormat::Rfc3164 => format!("<{priority}>{} {hostname} {tag}[{pid}]: ", local()),
            SyslogFormat::Rfc5424 => format!("<{priority}>1 {time:.0} {hostname} {tag} {pid} {tag} - "),
            SyslogFormat::Rfc5424Micro => format!("<{priority}>1 {time:.6} {hostname} {tag} {pid} {tag} - "),
        };
        [head.as_bytes(), line].concat()
    }
}

/// An entry in journald's own protocol: `NAME=value` lines; a value with newlines follows its name's line with its
/// length in eight bytes, the least first.
fn journal_entry(fields: &[(String, String)], severity: u8, line: &[u8]) -> Vec<u8> {
    let mut entry = format!("PRIORITY={severity}\n").into_bytes();
    let all = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    for (name, value) in all.chain([("MESSAGE", line)]) {
        entry.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            entry.push(b'\n');
            entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            entry.push(b'=');
        }
        entry.extend_from_slice(value);
        entry.push(b'\n');
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_written_as_each_format_has_it() {
        let syslog = |format| Syslog {
            address: SyslogAddress::Unix("/dev/log".into()),
            facility: 3,
            format,
            tag: "web".to_owned(),
            hostname: "host".to_owned(),
        };
        let time = "2026-11-04T09:05:06.123456Z".parse().unwrap();
        let pid = std::process::id();
        let text = |format| String::from_utf8(syslog(format).message(6, b"hello", time)).unwrap();
        assert_eq!(
            text(SyslogFormat::Rfc5424Micro),
            format!("<30>1 2026-11-04T09:05:06.123456Z host web {pid} web - hello")
        );
        assert_eq!(
            text(SyslogFormat::Rfc5424),
            format!("<30>1 2026-11-04T09:05:06Z host web {pid} web - hello")
        );
        assert!(text(SyslogFormat::Rfc3164).ends_with(&format!(" host web[{pid}]: hello")));
        assert!(text(SyslogFormat::Local).starts_with("<30>Nov  4 "), "{}", text(SyslogFormat::Local));
    }

    #[test]
    fn values_with_newlines_say_their_length() {
        let entry = journal_entry(&[("CONTAINER_NAME".to_owned(), "a\nb".to_owned())], 6, b"hi");
        assert_eq!(entry, b"PRIORITY=6\nCONTAINER_NAME\n\x03\0\0\0\0\0\0\0a\nb\nMESSAGE=hi\n");
    }

    #[test]
    fn a_daemon_that_listens_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let to = Forward::Syslog(Syslog {
            address: SyslogAddress::Unix(path),
            facility: 3,
            format: SyslogFormat::Local,
            tag: "web".to_owned(),
            hostname: String::new(),
        });
        Forwarder::open(&to).unwrap().send(Stream::Stderr, b"oh no");
        let mut buffer = [0; 256];
        let length = daemon.recv(&mut buffer).unwrap();
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(said.starts_with("<27>") && said.ends_with("]: oh no"), "{said}");
        drop(daemon);
        assert!(Forwarder::open(&to).is_err());
    }
}
