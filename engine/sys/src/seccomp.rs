//! Installing a seccomp filter without setting no_new_privs, which `seccompiler::apply_filter` always does: a
//! container whose programs may use set-user-ID bits must not have it.

use std::io;

use crate::check;

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// Where to jump if true.
    pub jt: u8,
    /// Where to jump if false.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// Adds a filter to the calling thread (seccomp(2), `SECCOMP_SET_MODE_FILTER`). It cannot be removed.
///
/// # Errors
/// `PermissionDenied` unless the caller has CAP_SYS_ADMIN in its user namespace or no_new_privs set.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `fprog` describes `program`, whose element type has the layout of sock_filter; the kernel copies it
    // and does not write to it.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, std::ptr::addr_of!(fprog))
    })
    .map(drop)
}
