use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use engine_types::ErrorKind;

/// The port of plain tcp, and of TLS, where none is given; Docker's.
const PLAIN_PORT: u16 = 2375;
const TLS_PORT: u16 = 2376;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `unix:///path`
    Unix(PathBuf),
    /// `tcp://127.0.0.1:2375`; without a port, Docker's for what is spoken there.
    Tcp {
        /// The host's address.
        ip: IpAddr,
        /// The port, if given.
        port: Option<u16>,
    },
    /// `fd://`: sockets that the service manager has opened, all, or the one of this name.
    Inherited(Option<String>),
}

/// Text that is no address to listen at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid address {0:?}: expected unix:///PATH, tcp://IP[:PORT] or fd://[NAME]")]
pub struct AddressError(String);

impl AddressError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidArgument
    }
}

impl Address {
    /// Where to listen by tcp.
    pub(super) fn socket(ip: IpAddr, port: Option<u16>, tls: bool) -> SocketAddr {
        SocketAddr::new(ip, port.unwrap_or(if tls { TLS_PORT } else { PLAIN_PORT }))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { ip, port: Some(port) } => write!(f, "tcp://{}", SocketAddr::new(*ip, *port)),
            Self::Tcp { ip, port: None } => write!(f, "tcp://{ip}"),
            Self::Inherited(name) => write!(f, "fd://{}", name.as_deref().unwrap_or_default()),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let invalid = || AddressError(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "fd" => {
                Ok(Self::Inherited(Some(rest.to_owned()).filter(|name| !matches!(name.as_str(), "" | "*"))))
            }
            "tcp" => {
                let rest = rest.trim_end_matches('/');
                let ip = |host: &str| match host {
                    "" | "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                    host => host.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| invalid()),
                };
                match rest.rsplit_once(':').filter(|_| !rest.ends_with(']')) {
                    Some((host, port)) => {
                        Ok(Self::Tcp { ip: ip(host)?, port: Some(port.parse().map_err(|_| invalid())?) })
                    }
                    None => Ok(Self::Tcp { ip: ip(rest)?, port: None }),
                }
            }
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_all_their_forms() {
        let parse = |text: &str| text.parse::<Address>();
        assert_eq!(parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert_eq!(parse("fd://").unwrap(), Address::Inherited(None));
        assert_eq!(parse("fd://api").unwrap(), Address::Inherited(Some("api".to_owned())));
        for (text, tls, at) in [
            ("tcp://localhost:2000", false, "127.0.0.1:2000"),
            ("tcp://0.0.0.0", true, "0.0.0.0:2376"),
            ("tcp://:80/", false, "127.0.0.1:80"),
            ("tcp://[::1]", false, "[::1]:2375"),
            ("tcp://[::1]:7", false, "[::1]:7"),
        ] {
            let Ok(Address::Tcp { ip, port }) = parse(text) else { panic!("{text}") };
            assert_eq!(Address::socket(ip, port, tls).to_string(), at, "{text}");
        }
        for bad in ["unix://relative", "", "tcp://host.example:1", "http://127.0.0.1:1", "tcp://127.0.0.1:x"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
