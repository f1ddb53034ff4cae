use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};

use engine_runtime::log::{Syslog, SyslogAddress, SyslogFormat};

use super::LogDriverError;

/// Where the syslog daemon of this host listens.
const LOCAL: &str = "/dev/log";
/// The port of syslog.
const PORT: u16 = 514;
/// Facilities by number (RFC 5424, 6.2.1).
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Reads the options of the driver `syslog`.
pub(super) fn parse(options: &BTreeMap<String, String>, tag: String) -> Result<Syslog, LogDriverError> {
    let address = match options.get("syslog-address") {
        Some(text) => address(text)?,
        None => SyslogAddress::Unix(LOCAL.into()),
    };
    let facility = options.get("syslog-facility").map_or("daemon", String::as_str);
    let known = FACILITIES.iter().find(|(name, number)| *name == facility || number.to_string() == facility);
    let facility =
        known.ok_or_else(|| LogDriverError::value("syslog-facility", facility, "unknown facility"))?;
    let format = match options.get("syslog-format").map(String::as_str) {
        None if options.contains_key("syslog-address") && !matches!(address, SyslogAddress::Unix(_)) => {
            SyslogFormat::Rfc3164
        }
        None => SyslogFormat::Local,
        Some("rfc3164") => SyslogFormat::Rfc3164,
        Some("rfc5424") => SyslogFormat::Rfc5424,
        Some("rfc5424micro") => SyslogFormat::Rfc5424Micro,
        Some(other) => return Err(LogDriverError::value("syslog-format", other, "unknown format")),
    };
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Syslog { address, facility: facility.1, format, tag, hostname })
}

fn address(text: &str) -> Result<SyslogAddress, LogDriverError> {
    let invalid = |reason| LogDriverError::value("syslog-address", text, reason);
    let expected = "expected unix:///PATH, udp://HOST[:PORT] or tcp://HOST[:PORT]";
    let (scheme, rest) = text.split_once("://").ok_or_else(|| invalid(expected))?;
    match scheme {
        "unix" | "unixgram" if rest.starts_with('/') => Ok(SyslogAddress::Unix(rest.into())),
        "udp" => Ok(SyslogAddress::Udp(resolve(rest).ok_or_else(|| invalid("no such host"))?)),
        "tcp" => Ok(SyslogAddress::Tcp(resolve(rest).ok_or_else(|| invalid("no such host"))?)),
        "tcp+tls" => Err(invalid("syslog by TLS is not supported by this engine")),
        _ => Err(invalid(expected)),
    }
}

fn resolve(host: &str) -> Option<SocketAddr> {
    let with_port = host.to_socket_addrs().ok().and_then(|mut all| all.next());
    with_port.or_else(|| (host, PORT).to_socket_addrs().ok()?.next())
}
