//! execve.

use std::ffi::{CStr, CString};
use std::io;

/// Replaces this process by `program` (execve(2)); returns only the error.
pub fn execve(program: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let argv = pointers(args);
    let envp = pointers(env);
    // SAFETY: both arrays are null-terminated, of pointers to C strings that live until the call returns.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}
