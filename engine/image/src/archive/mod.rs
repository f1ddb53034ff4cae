//! Tar archives in and out, safe against hostile ones.
//!
//! [`unpack`] writes an archive below a directory that it never leaves, whatever the archive says; [`Packer`] and
//! [`pack`] make deterministic archives. Both carry what a layer needs: hard links, symbolic links, extended
//! attributes (as `SCHILY.xattr.*` records), devices, fifos, setuid bits, owners and modification times in
//! nanoseconds. With [`Whiteouts::Overlay`] the OCI markers for deleted files become overlayfs's and back.

mod compression;
mod dest;
mod error;
mod pack;
mod reader;
mod unpack;

pub use compression::{Compression, decompress};
pub use error::UnpackError;
pub use pack::{PackError, PackOptions, Packed, Packer, pack};
pub use unpack::{Limits, Owner, UnpackOptions, Unpacked, unpack, unpack_into};

/// What happens to whiteouts, the markers by which a layer deletes what lies in the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Whiteouts {
    /// They are files like any other.
    #[default]
    Keep,
    /// `.wh.x` in the archive is a character device 0:0 named `x` on disk, `.wh..wh..opq` the attribute
    /// `trusted.overlay.opaque=y` of its directory.
    ///
    /// OCI image spec, layer.md, "Whiteouts"; the kernel's Documentation/filesystems/overlayfs.rst.
    Overlay,
}

/// The prefix of a whiteout's name (OCI image spec, layer.md).
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// The name of the marker that hides all that a directory has in lower layers.
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// The attribute by which overlayfs knows an opaque directory.
const OPAQUE_XATTR: &str = "trusted.overlay.opaque";
/// The record keywords under which extended attributes travel in PAX headers (star's, used by everyone).
const XATTR_RECORD: &str = "SCHILY.xattr.";

/// Tells attributes that belong to the file from those that belong to this host: overlayfs's own bookkeeping
/// (which would redirect lookups if an archive could set it), SELinux labels and integrity signatures.
fn is_portable_xattr(name: &[u8]) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let kept = name.starts_with(b"user.") || name.starts_with(b"trusted.") || name == b"security.capability";
    kept && !overlay
}

#[cfg(test)]
pub(crate) mod random_tree;
#[cfg(test)]
mod tests;
