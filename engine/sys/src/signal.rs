//! Signal dispositions, masks and signalfd.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

/// The largest signal number (signal(7), `SIGRTMAX`).
const SIGNAL_MAX: i32 = 64;

/// Gives every signal its default action and unblocks all: execve keeps ignored signals ignored (Rust's runtime
/// ignores SIGPIPE) and the mask as it is.
pub fn reset() -> io::Result<()> {
    for signal in 1..=SIGNAL_MAX {
        if matches!(signal, libc::SIGKILL | libc::SIGSTOP | 32 | 33) {
            continue; // cannot be changed; 32 and 33 are the C library's own
        }
        // SAFETY: SIG_DFL is no function pointer to be called, so no handler code can be unsound.
        if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    set_mask(&empty_set())
}

/// Blocks all signals for the calling thread, so that a [`SignalFd`] can report them.
pub fn block_all() -> io::Result<()> {
    set_mask(&full_set())
}

/// A descriptor that becomes readable when a blocked signal arrives (signalfd(2)). Close-on-exec, non-blocking.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Reports all signals. They must be blocked ([`block_all`]).
    pub fn all() -> io::Result<Self> {
        let set = full_set();
        // SAFETY: `set` is an initialised signal set; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes one pending signal's number, or `None` if none is pending.
    pub fn read(&self) -> io::Result<Option<i32>> {
        use std::os::fd::AsRawFd;
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::uninit();
        let size = std::mem::size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer has room for `size` bytes.
        let n = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if n == size as isize {
            // SAFETY: the kernel filled the whole struct.
            return Ok(Some(unsafe { info.assume_init() }.ssi_signo as i32));
        }
        match io::Error::last_os_error() {
            e if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            e => Err(e),
        }
    }
}

impl std::os::fd::AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn set_mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised; a null old set is allowed.
    let errno = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) };
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno)) }
}

fn empty_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set and cannot fail for a valid pointer.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn full_set() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: as above, for sigfillset.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}
