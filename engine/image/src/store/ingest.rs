//! Takes in a layer's archive: verified, kept as it came, and unpacked, in one pass.
//!
//! One thread reads, hashes and decompresses, the other writes files: on two processors the pass takes as long as
//! the slower of both.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use engine_types::Digest;
use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;

use super::error::{StoreError, at};
use super::layers::{DiffId, Hashed, StagedLayer};
use super::staging::{StagedDir, StagedFile};
use super::{ChainId, Hashing, ImageStore, Layer};
use crate::archive::{Compression, UnpackError, UnpackOptions, decompress, unpack_into};
use crate::manifest::Descriptor;

/// Decompressed bytes handed from thread to thread at once, and how many such pieces may wait.
const PIECE_BYTES: usize = 256 * 1024;
const PIECES_WAITING: usize = 16;

const BLOB_MODE: Mode = Mode::from_raw_mode(0o644);

/// What the source has to be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected {
    pub(crate) blob: Option<Digest>,
    pub(crate) diff_id: Option<DiffId>,
}

/// A layer taken in, but not yet in its place.
pub(crate) struct Ingested {
    staged: StagedLayer,
    blob_file: Option<StagedFile>,
    pub(crate) hashed: Hashed,
    pub(crate) blob: Descriptor,
}

impl Ingested {
    /// The layer without its blob, which its archive's source has.
    pub(super) fn into_layer(self) -> (StagedLayer, Hashed) {
        (self.staged, self.hashed)
    }

    /// The staged layer alone, without its blob.
    pub(super) fn into_staged(self) -> StagedDir {
        self.staged.into_dir()
    }
}

/// What the reading thread learnt.
struct Source {
    compression: Compression,
    diff: Digest,
    diff_bytes: u64,
    blob: Digest,
    blob_bytes: u64,
    blob_file: Option<StagedFile>,
}

impl ImageStore {
    /// Reads a layer's archive to its end into the staging area.
    ///
    /// With `keep` the archive's own bytes become a blob; without, the caller has them as a file.
    pub(crate) fn ingest(
        &self,
        source: impl Read + Send,
        expected: Expected,
        keep: bool,
    ) -> Result<Ingested, StoreError> {
        let staged = self.stage()?;
        let upper = staged.upper();
        let directory = File::open(&upper).map_err(at("open", &upper))?;
        let blob_file = if keep { Some(StagedFile::create(self.root())?) } else { None };
        let mut tee = Tee { source: Hashing::new(source), copy: blob_file, failed: None };
        let options = UnpackOptions::layer(self.0.limits);
        let (sender, receiver) = sync_channel(PIECES_WAITING);
        let (unpacked, read) = std::thread::scope(|scope| {
            let tee = &mut tee;
            // The sender goes with the thread, whose end is the end of what the unpacker reads.
            let reader = scope.spawn(move || self.read_source(tee, &sender));
            let unpacked = unpack_into(Pieces::new(receiver), directory.into(), &options);
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (unpacked, read)
        });
        // What stopped the reading is why the unpacking found no end.
        if let Some(error) = tee.failed.take() {
            return Err(error);
        }
        let (compression, diff, diff_bytes, plain) = read?;
        let unpacked = unpacked.map_err(|error| broken(error, &upper, &mut tee, expected.blob))?;
        let mut source = Source {
            compression,
            diff,
            diff_bytes,
            blob: tee.source.digest(),
            blob_bytes: tee.source.bytes,
            blob_file: tee.copy,
        };
        verify("a blob", expected.blob, source.blob)?;
        verify("a layer", expected.diff_id.map(|id| id.0), source.diff)?;
        if plain.is_some() {
            (source.blob, source.blob_bytes, source.blob_file) = (source.diff, source.diff_bytes, plain);
        }
        Ok(Ingested {
            staged,
            blob: Descriptor::layer(source.compression, source.blob, source.blob_bytes),
            blob_file: source.blob_file,
            hashed: Hashed {
                diff_id: DiffId(source.diff),
                archive_bytes: source.diff_bytes,
                file_bytes: unpacked.file_bytes,
            },
        })
    }

    /// Decompresses, hashes and hands on. Compressions for which no layer media type exists are kept plain.
    fn read_source<R: Read + Send>(
        &self,
        tee: &mut Tee<R>,
        sender: &SyncSender<io::Result<Vec<u8>>>,
    ) -> Result<(Compression, Digest, u64, Option<StagedFile>), StoreError> {
        let keep = tee.copy.is_some();
        let (compression, reader) = match decompress(&mut *tee) {
            Ok(found) => found,
            Err(e) => {
                _ = sender.send(Err(e));
                return Ok((Compression::None, Digest::from_sha256([0; 32]), 0, None));
            }
        };
        let unkeepable = matches!(compression, Compression::Bzip2 | Compression::Xz);
        let plain = if keep && unkeepable { Some(StagedFile::create(self.root())?) } else { None };
        let mut reader = Hashing::new(reader);
        loop {
            let mut piece = vec![0; PIECE_BYTES];
            match fill(&mut reader, &mut piece) {
                Ok(0) => break,
                Ok(filled) => piece.truncate(filled),
                Err(e) => {
                    _ = sender.send(Err(e));
                    break;
                }
            }
            if let Some(plain) = &plain {
                plain.file().write_all(&piece).map_err(at("write", plain.path()))?;
            }
            if sender.send(Ok(piece)).is_err() {
                break;
            }
        }
        Ok((compression, reader.digest(), reader.bytes, plain))
    }

    /// Puts an ingested layer and its blob in their places.
    pub(crate) fn place(&self, mut ingested: Ingested, parent: Option<ChainId>) -> Result<Layer, StoreError> {
        self.place_blob(&mut ingested)?;
        let Ingested { staged, hashed, blob, .. } = ingested;
        let kept = self.has_blob(blob.digest).then(|| blob.clone());
        let layer = self.adopt_with(&staged, parent, hashed, kept)?;
        if layer.blob.is_none() && self.has_blob(blob.digest) {
            self.set_layer_blob(layer.chain_id, &blob)?;
        }
        Ok(layer)
    }

    /// Unpacks a layer again from its blob.
    pub(crate) fn ingest_blob(&self, blob: Digest, diff_id: DiffId) -> Result<Ingested, StoreError> {
        let path = self.blob_path(blob);
        let file = File::open(&path).map_err(at("open", &path))?;
        self.ingest(file, Expected { blob: Some(blob), diff_id: Some(diff_id) }, false)
    }

    /// Removes a blob whose content turned out damaged.
    pub(crate) fn discard_blob(&self, blob: Digest) -> Result<(), StoreError> {
        let path = self.blob_path(blob);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(at("remove", &path)),
        }
    }

    /// Stores a blob from a stream without unpacking it.
    pub(crate) fn ingest_raw(&self, source: impl Read, expected: Digest) -> Result<(), StoreError> {
        let staged = StagedFile::create(self.root())?;
        let mut source = Hashing::new(source);
        io::copy(&mut source, &mut staged.file()).map_err(at("write", staged.path()))?;
        verify("a blob", Some(expected), source.digest())?;
        staged.place(&self.blob_path(expected))
    }

    /// Gives an open file that was verified as this blob its place, sharing the bytes on the disk.
    pub(super) fn link_blob(&self, file: &File, digest: Digest) -> Result<(), StoreError> {
        let target = self.blob_path(digest);
        // It comes from an archive, which chose its mode: a setuid bit, say.
        rustix::fs::fchmod(file, BLOB_MODE).map_err(|e| at("set the mode of", &target)(e.into()))?;
        // By descriptor, not by name: a name in a foreign archive may be a symbolic link.
        let source = format!("/proc/self/fd/{}", file.as_raw_fd());
        match rustix::fs::linkat(CWD, source, CWD, &target, AtFlags::SYMLINK_FOLLOW) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(e) => Err(at("create", &target)(e.into())),
        }
    }

    /// Puts the blob of an ingested layer in its place before the layer itself.
    pub(crate) fn place_blob(&self, ingested: &mut Ingested) -> Result<(), StoreError> {
        match ingested.blob_file.take() {
            Some(file) => file.place(&self.blob_path(ingested.blob.digest)),
            None => Ok(()),
        }
    }
}

fn verify(what: &'static str, expected: Option<Digest>, actual: Digest) -> Result<(), StoreError> {
    match expected {
        Some(expected) if expected != actual => Err(StoreError::Digest { what, expected, actual }),
        _ => Ok(()),
    }
}

/// The reason an archive could not be unpacked: a wrong digest, if it has one, explains all else.
fn broken<R: Read>(
    source: UnpackError,
    path: &Path,
    tee: &mut Tee<R>,
    expected: Option<Digest>,
) -> StoreError {
    let damaged = matches!(&source, UnpackError::Malformed { .. } | UnpackError::Truncated { .. })
        || matches!(&source, UnpackError::Read(e) if e.kind() != io::ErrorKind::Other);
    if damaged
        && expected.is_some()
        && io::copy(&mut tee.source, &mut io::sink()).is_ok()
        && let Err(wrong) = verify("a blob", expected, tee.source.digest())
    {
        return wrong;
    }
    StoreError::Unpack { path: path.to_owned(), source }
}

/// Copies what is read into the blob's file.
struct Tee<R> {
    source: Hashing<R>,
    copy: Option<StagedFile>,
    /// The copy could not be written, which is no fault of the source.
    failed: Option<StoreError>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        if let Some(copy) = &self.copy {
            copy.file().write_all(&buffer[..read]).map_err(|e| {
                let kind = e.kind();
                self.failed = Some(at("write", copy.path())(e));
                io::Error::from(kind)
            })?;
        }
        Ok(read)
    }
}

/// The receiving end, as a reader.
struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    position: usize,
}

impl Pieces {
    fn new(receiver: Receiver<io::Result<Vec<u8>>>) -> Self {
        Self { receiver, piece: Vec::new(), position: 0 }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.position) = (piece?, 0),
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.position);
        buffer[..count].copy_from_slice(&self.piece[self.position..self.position + count]);
        self.position += count;
        Ok(count)
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}
