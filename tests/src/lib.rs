//! The suites are in the folders beside; this crate itself is empty.
