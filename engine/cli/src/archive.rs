//! Files of this machine into tar archives.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use tar::{Builder, EntryType, Header};

/// Whose the files in an archive are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Root,
    /// As here.
    Same,
}

/// Appends what is at `path` as `name`, without what is below a directory. Sockets are left out.
pub(crate) fn append(
    archive: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    metadata: &Metadata,
    owner: Owner,
) -> io::Result<()> {
    let kind = metadata.file_type();
    if kind.is_socket() {
        return Ok(());
    }
    let mut header = Header::new_gnu();
    let (uid, gid) = match owner {
        Owner::Root => (0, 0),
        Owner::Same => (metadata.uid(), metadata.gid()),
    };
    header.set_mode(metadata.mode() & 0o7777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_uid(uid.into());
    header.set_gid(gid.into());
    header.set_size(0);
    if kind.is_file() {
        header.set_entry_type(EntryType::Regular);
        header.set_size(metadata.len());
        // One that grows meanwhile must not spoil what comes after it.
        return archive.append_data(&mut header, name, File::open(path)?.take(metadata.len()));
    }
    if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return archive.append_link(&mut header, name, fs::read_link(path)?);
    }
    header.set_entry_type(match () {
        () if kind.is_dir() => EntryType::Directory,
        () if kind.is_fifo() => EntryType::Fifo,
        () if kind.is_char_device() => EntryType::Char,
        () => EntryType::Block,
    });
    if kind.is_char_device() || kind.is_block_device() {
        header.set_device_major(rustix::fs::major(metadata.rdev()))?;
        header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
    }
    archive.append_data(&mut header, name, io::empty())
}

/// Appends a directory's entries and all below them, each below `name`.
pub(crate) fn append_below(
    archive: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    owner: Owner,
) -> io::Result<()> {
    let mut entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        let metadata = entry.metadata()?;
        append(archive, &path, &name, &metadata, owner)?;
        if metadata.is_dir() {
            append_below(archive, &path, &name, owner)?;
        }
    }
    Ok(())
}

/// Appends a file of these bytes.
pub(crate) fn append_bytes(archive: &mut Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes)
}
