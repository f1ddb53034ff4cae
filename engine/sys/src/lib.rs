//! Safe wrappers over the Linux calls that a container needs and that `rustix` does not have; the only crate
//! with `unsafe`. Synchronous, without state.

pub mod bpf;
pub mod exec;
pub mod mount;
pub mod process;
pub mod seccomp;
pub mod signal;
pub mod socket;

/// Turns a raw system call's return value into a result.
fn check(ret: libc::c_long) -> std::io::Result<libc::c_long> {
    if ret < 0 { Err(std::io::Error::last_os_error()) } else { Ok(ret) }
}
