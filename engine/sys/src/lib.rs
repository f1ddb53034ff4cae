//! Safe wrappers over the Linux calls that a container needs; the only crate with `unsafe`.
