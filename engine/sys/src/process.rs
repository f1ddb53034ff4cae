//! clone3 for a single-threaded parent.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// linux/sched.h; the constant of the `libc` crate is too narrow to hold it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Namespaces that a clone can be asked to make (clone(2), `CLONE_NEW*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Namespaces(u64);

impl Namespaces {
    /// Mount points.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u64);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u64);
    /// Interfaces, routes, sockets.
    pub const NET: Self = Self(libc::CLONE_NEWNET as u64);
    /// Host name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u64);

    /// User and group ids.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u64);

    /// Adds `other` to the set.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A child made by [`spawn`], not yet waited for.
#[derive(Debug)]
pub struct Child {
    /// Its process id in the caller's PID namespace.
    pub pid: i32,
    /// A descriptor of it, readable (poll) once it has exited. Close-on-exec.
    pub pidfd: OwnedFd,
}

/// Forks a child into new namespaces, and into a cgroup v2 directory where one is given (clone3 with
/// `CLONE_INTO_CGROUP`: the child is never outside of it), and runs `main` in it.
///
/// The child exits with what `main` returns. It shares no memory with the parent (copy on write), inherits all
/// descriptors, and its memory is as the parent's was.
///
/// # Errors
/// `ErrorKind::Other` if this process has more than one thread: another thread might hold a lock (the allocator's,
/// say) that would stay locked in the child for ever. Otherwise what clone3(2) returns.
pub fn spawn(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    main: impl FnOnce() -> i32,
) -> io::Result<Child> {
    if thread_count()? != 1 {
        return Err(io::Error::other("a process with several threads cannot fork a container"));
    }
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid value of this plain C struct.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.0 | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::addr_of_mut!(pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args whose pidfd pointer outlives the call. Without CLONE_VM and with a null
    // stack this is a fork: the child runs on a copy of this stack. This process has one thread (checked above), so
    // no lock in the child's copy of memory is held by a thread that does not exist there.
    let ret = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::addr_of_mut!(args), std::mem::size_of::<libc::clone_args>())
    };
    if check(ret)? == 0 {
        let code = main();
        // SAFETY: _exit is always sound; it skips the parent's exit handlers, which are not the child's to run.
        unsafe { libc::_exit(code) }
    }
    // SAFETY: the kernel stored a new descriptor there, owned by nobody else.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: ret as i32, pidfd })
}

/// Reads the number of threads of this process from `/proc/self/stat`'s 20th field (proc(5)).
fn thread_count() -> io::Result<usize> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is the command in parentheses and may itself hold spaces and parentheses.
    let after_command = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_command
        .split_ascii_whitespace()
        .nth(17)
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no thread count in /proc/self/stat"))
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2)).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: setting a flag on descriptors touches no memory.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// Closes every descriptor from 3 on but the given ones.
///
/// For a child of [`spawn`] that lives on without execve, and so holds copies of all its parent's descriptors. What
/// the parent's code kept them in must not be used in this process any more.
pub fn close_inherited_except(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: closing descriptors touches no memory.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Gives the calling process a cgroup namespace rooted in the cgroups it is in (cgroup_namespaces(7)).
pub fn unshare_cgroup_namespace() -> io::Result<()> {
    // SAFETY: of what unshare(2) can part, only a shared descriptor table would matter to memory safety.
    check(unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWCGROUP) }).map(drop)
}

/// Gives the calling thread a mount namespace of its own, a copy of the one it was in (mount_namespaces(7)), and with it a
/// working directory and umask that other threads do not share.
pub fn unshare_mount_namespace() -> io::Result<()> {
    // SAFETY: of what unshare(2) can part, only a shared descriptor table would matter to memory safety.
    check(unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWNS) }).map(drop)
}

/// Ends the process at once (_exit(2)): nothing is dropped, no handler runs.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}
