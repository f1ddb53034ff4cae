//! What `rustix` does not tell of sockets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How many bytes that were sent through a Unix stream socket its other end has not read yet, kernel overhead included:
/// zero if it has read all (`SIOCOUTQ`, unix(7)).
pub fn unread_by_peer(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int to the address, which is that of a live local of the type.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    crate::check(ret.into())?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_read_is_not_counted_any_more() {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        assert_eq!(unread_by_peer(a.as_fd()).unwrap(), 0);
        a.write_all(b"hello").unwrap();
        assert!(unread_by_peer(a.as_fd()).unwrap() > 0);
        b.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(unread_by_peer(a.as_fd()).unwrap(), 0);
    }
}
