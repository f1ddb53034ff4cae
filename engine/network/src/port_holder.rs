//! Which process has a port, as far as `/proc` tells: it lists listening TCP and bound UDP sockets by their inode, and
//! a process's descriptors name theirs.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::Protocol;

/// A socket's states in proc(5)'s `net/tcp`, which are those of `net/tcp_states.h`: a UDP socket that is bound is
/// "closed".
const LISTEN: &str = "0A";
const CLOSE: &str = "07";

/// A process that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its program's name, as `/proc/<pid>/comm` has it.
    pub program: String,
    /// Its process id.
    pub pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.program, self.pid)
    }
}

/// Finds the process that has a port of the calling thread's network namespace.
pub(crate) fn find(proc: &Path, protocol: Protocol, port: u16) -> Option<Holder> {
    let (files, state) = match protocol {
        Protocol::Tcp => (["tcp", "tcp6"], LISTEN),
        Protocol::Udp => (["udp", "udp6"], CLOSE),
        Protocol::Sctp => return None,
    };
    let inode = files.iter().find_map(|file| {
        let table = fs::read_to_string(proc.join("thread-self/net").join(file)).ok()?;
        inode_of(&table, state, port)
    })?;
    let link = format!("socket:[{inode}]");
    fs::read_dir(proc).ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let has_it =
            |fd: fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == &*link);
        fs::read_dir(entry.path().join("fd")).ok()?.filter_map(Result::ok).any(has_it).then_some(())?;
        let program = fs::read_to_string(entry.path().join("comm")).ok()?.trim_end().to_owned();
        Some(Holder { program, pid })
    })
}

/// The inode of the socket with this state and local port: fields 4, 2 (`address:port` in hex) and 10.
fn inode_of(table: &str, state: &str, port: u16) -> Option<u64> {
    let suffix = format!(":{port:04X}");
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == state;
        is_it.then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_by_its_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 1 1\n\
            1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n";
        assert_eq!(inode_of(table, LISTEN, 8080), Some(4711));
        assert_eq!(inode_of(table, LISTEN, 8081), None);
    }

    #[test]
    fn this_process_is_found() {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = find(Path::new("/proc"), Protocol::Tcp, port).unwrap();
        assert_eq!(holder.pid, std::process::id());
    }
}
