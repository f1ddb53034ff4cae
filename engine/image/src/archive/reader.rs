//! The framing of tar: headers, long names, PAX records, sparse maps, data and padding.
//!
//! The `tar` crate decodes the fields of each header block. The framing is ours because the crate's own iterator
//! reads a PAX header of any size into memory, and a hostile archive may claim terabytes.

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::XATTR_RECORD;

const BLOCK_BYTES: u64 = 512;
/// The most that a PAX header or a long name may hold; Go's archive/tar, which Docker uses, allows as much.
const META_MAX_BYTES: u64 = 1024 * 1024;
/// The longest file there can be: the kernel's offsets are signed.
const FILE_MAX_BYTES: u64 = i64::MAX as u64 - BLOCK_BYTES;
/// The most pieces a sparse file's map may have.
const SPARSE_PIECES_MAX: usize = 65_536;

/// One entry: its header with everything that extension headers override.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    /// Seconds and nanoseconds since the epoch.
    pub(super) mtime: (i64, u32),
    /// The file's length, holes included.
    pub(super) size: u64,
    /// Major and minor number.
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the archived bytes belong in a sparse file, in order; one piece for an ordinary one.
    pub(super) pieces: Vec<(u64, u64)>,
}

/// A stream that does not follow the tar format.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("failed to read the archive")]
    Io(#[source] io::Error),
    #[error("archive ends in the middle of an entry")]
    Truncated,
    #[error("not a tar archive: wrong checksum in the header at byte {offset}")]
    Checksum { offset: u64 },
    #[error("malformed tar header at byte {offset}: {what}")]
    Malformed { offset: u64, what: &'static str },
    #[error("tar extension header of {size} bytes at byte {offset}; the limit is {META_MAX_BYTES} bytes")]
    MetaTooLarge { offset: u64, size: u64 },
}

/// What extension headers said of the next entry.
#[derive(Default)]
struct Pending {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// GNU's sparse format 1.0: the map stands before the data.
    sparse_name: Option<Vec<u8>>,
    sparse_size: Option<u64>,
    sparse_1_0: bool,
}

pub(super) struct TarReader<R> {
    source: R,
    offset: u64,
    /// Bytes of the current entry's data not yet read, and of the padding after it.
    data_left: u64,
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, offset: 0, data_left: 0, padding: 0 }
    }

    /// Moves to the next entry, skipping what is left of the current one; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        let mut pending = Pending::default();
        loop {
            self.skip_rest()?;
            let start = self.offset;
            let Some(header) = self.header()? else { return Ok(None) };
            let malformed = |what| ReadError::Malformed { offset: start, what };
            let size = header.entry_size().map_err(|_| malformed("size"))?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let records = self.meta(start, size)?;
                    pending.apply(&records).map_err(malformed)?;
                }
                EntryType::XGlobalHeader => drop(self.meta(start, size)?),
                EntryType::GNULongName => pending.path = Some(trim_nul(self.meta(start, size)?)),
                EntryType::GNULongLink => pending.link = Some(trim_nul(self.meta(start, size)?)),
                _ => return self.entry(start, &header, pending).map(Some),
            }
        }
    }

    /// Reads data of the current entry; 0 at its end.
    pub(super) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let wanted = buffer.len().min(usize::try_from(self.data_left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.read_some(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(ReadError::Truncated);
        }
        self.data_left -= read as u64;
        Ok(read)
    }

    /// Reads whatever follows the end marker, so that a digest over the whole stream is complete.
    pub(super) fn drain(&mut self) -> Result<(), ReadError> {
        io::copy(&mut self.source, &mut io::sink()).map(drop).map_err(ReadError::Io)
    }

    fn entry(&mut self, start: u64, header: &Header, pending: Pending) -> Result<Entry, ReadError> {
        let malformed = |what| ReadError::Malformed { offset: start, what };
        let archived = match pending.size {
            Some(size) => size,
            None => header.entry_size().map_err(|_| malformed("size"))?,
        };
        if archived > FILE_MAX_BYTES {
            return Err(malformed("size"));
        }
        let (kind, old) = (header.entry_type(), header.as_old());
        // Links and directories have no data, whatever their size field says (POSIX pax, "size").
        let has_data = matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
        let mut entry = Entry {
            path: pending.path.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: pending
                .link
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default(),
            kind,
            mode: unless_blank(&old.mode, || header.mode()).map_err(|_| malformed("mode"))?,
            uid: pending
                .uid
                .map_or_else(|| unless_blank(&old.uid, || header.uid()), Ok)
                .map_err(|_| malformed("uid"))?,
            gid: pending
                .gid
                .map_or_else(|| unless_blank(&old.gid, || header.gid()), Ok)
                .map_err(|_| malformed("gid"))?,
            mtime: match pending.mtime {
                Some(mtime) => mtime,
                None => (header_mtime(header).ok_or_else(|| malformed("mtime"))?, 0),
            },
            size: archived,
            device: device(header, kind).ok_or_else(|| malformed("device number"))?,
            xattrs: pending.xattrs,
            pieces: vec![(0, archived)],
        };
        if !has_data {
            entry.size = 0;
            // A hard link with data is old cpio's way; nothing that makes images writes it, so it is skipped.
            self.expect_data(if kind == EntryType::Link || known_empty(kind) { 0 } else { archived });
            return Ok(entry);
        }
        if kind == EntryType::GNUSparse {
            (entry.size, entry.pieces) = self.gnu_sparse(start, header)?;
            self.expect_data(archived);
        } else {
            self.expect_data(archived);
            if pending.sparse_1_0 {
                entry.path = pending.sparse_name.unwrap_or(entry.path);
                entry.size = pending.sparse_size.ok_or_else(|| malformed("sparse file without a size"))?;
                entry.pieces = self.pax_sparse_map(start)?;
            }
        }
        check_pieces(&entry, self.data_left).map_err(malformed)?;
        Ok(entry)
    }

    fn expect_data(&mut self, size: u64) {
        self.data_left = size;
        self.padding = size.next_multiple_of(BLOCK_BYTES) - size;
    }

    /// Reads a header block; `None` at the end marker or at a clean end of the stream.
    fn header(&mut self) -> Result<Option<Header>, ReadError> {
        let offset = self.offset;
        let mut header = Header::new_old();
        let filled = self.read_full(header.as_mut_bytes())?;
        if filled == 0 {
            return Ok(None);
        }
        if filled < header.as_bytes().len() {
            return Err(ReadError::Truncated);
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|&b| b == 0) {
            return Ok(None);
        }
        // The checksum is over the block with its own field read as blanks (POSIX ustar).
        let field: u32 = bytes[148..156].iter().map(|&b| u32::from(b)).sum();
        let sum: u32 = bytes.iter().map(|&b| u32::from(b)).sum::<u32>() - field + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(ReadError::Checksum { offset });
        }
        Ok(Some(header))
    }

    /// Reads an extension header's content.
    fn meta(&mut self, start: u64, size: u64) -> Result<Vec<u8>, ReadError> {
        if size > META_MAX_BYTES {
            return Err(ReadError::MetaTooLarge { offset: start, size });
        }
        self.expect_data(size);
        let mut content = vec![0; usize::try_from(size).unwrap_or(0)];
        let mut filled = 0;
        while filled < content.len() {
            filled += self.read_data(&mut content[filled..])?;
        }
        Ok(content)
    }

    /// The map of a file in GNU's old sparse format: four pieces in the header, more in blocks after it.
    fn gnu_sparse(&mut self, start: u64, header: &Header) -> Result<(u64, Vec<(u64, u64)>), ReadError> {
        let malformed = |what| ReadError::Malformed { offset: start, what };
        let gnu = header.as_gnu().ok_or_else(|| malformed("sparse file without a GNU header"))?;
        let size = gnu.real_size().map_err(|_| malformed("sparse file's size"))?;
        let mut pieces = Vec::new();
        let add = |pieces: &mut Vec<(u64, u64)>, headers: &[GnuSparseHeader]| {
            for piece in headers.iter().filter(|piece| !piece.is_empty()) {
                let offset = piece.offset().map_err(|_| malformed("sparse map"))?;
                pieces.push((offset, piece.length().map_err(|_| malformed("sparse map"))?));
            }
            if pieces.len() > SPARSE_PIECES_MAX { Err(malformed("sparse map too long")) } else { Ok(()) }
        };
        add(&mut pieces, &gnu.sparse)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut block = GnuExtSparseHeader::new();
            if self.read_full(block.as_mut_bytes())? < block.as_bytes().len() {
                return Err(ReadError::Truncated);
            }
            add(&mut pieces, block.sparse())?;
            extended = block.is_extended();
        }
        Ok((size, pieces))
    }

    /// The map of a file in GNU's sparse format 1.0: decimal numbers, a line each, at the start of the data.
    fn pax_sparse_map(&mut self, start: u64) -> Result<Vec<(u64, u64)>, ReadError> {
        let malformed = ReadError::Malformed { offset: start, what: "sparse map" };
        let mut numbers = Vec::new();
        let mut number = Vec::new();
        let mut block = [0; BLOCK_BYTES as usize];
        loop {
            let mut filled = 0;
            while filled < block.len() {
                match self.read_data(&mut block[filled..])? {
                    0 => return Err(malformed),
                    read => filled += read,
                }
            }
            for &byte in &block {
                if byte != b'\n' {
                    number.push(byte);
                    continue;
                }
                let Some(parsed) = decimal(&number) else { return Err(malformed) };
                numbers.push(parsed);
                number.clear();
                if numbers[0] > SPARSE_PIECES_MAX as u64 {
                    return Err(malformed);
                }
                if numbers.len() as u64 == 1 + 2 * numbers[0] {
                    return Ok(numbers[1..].chunks_exact(2).map(|pair| (pair[0], pair[1])).collect());
                }
            }
            if number.len() > block.len() {
                return Err(malformed);
            }
        }
    }

    fn skip_rest(&mut self) -> Result<(), ReadError> {
        let rest = self.data_left + self.padding;
        if rest == 0 {
            return Ok(());
        }
        let skipped = io::copy(&mut (&mut self.source).take(rest), &mut io::sink()).map_err(ReadError::Io)?;
        self.offset += skipped;
        // Some writers leave the last padding out.
        if skipped < self.data_left {
            return Err(ReadError::Truncated);
        }
        (self.data_left, self.padding) = (0, 0);
        Ok(())
    }

    fn read_full(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            match self.source.read(buffer) {
                Ok(read) => {
                    self.offset += read as u64;
                    return Ok(read);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Decompressors say it so when their input stops short.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Err(ReadError::Truncated),
                Err(e) => return Err(ReadError::Io(e)),
            }
        }
    }
}

impl Pending {
    /// Takes the records of a PAX header: `<length> <keyword>=<value>\n`, the length in decimal.
    fn apply(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        let malformed = "PAX record";
        while !records.is_empty() && records[0] != 0 {
            let blank = records.iter().position(|&b| b == b' ').ok_or(malformed)?;
            let length = decimal(&records[..blank]).and_then(|n| usize::try_from(n).ok()).ok_or(malformed)?;
            let record = records.get(blank + 1..length).ok_or(malformed)?;
            let record = record.strip_suffix(b"\n").ok_or(malformed)?;
            let equals = record.iter().position(|&b| b == b'=').ok_or(malformed)?;
            let keyword = std::str::from_utf8(&record[..equals]).map_err(|_| malformed)?;
            self.record(keyword, &record[equals + 1..])?;
            records = &records[length..];
        }
        Ok(())
    }

    fn record(&mut self, keyword: &str, value: &[u8]) -> Result<(), &'static str> {
        match keyword {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(decimal(value).ok_or("PAX size")?),
            "uid" => self.uid = Some(decimal(value).ok_or("PAX uid")?),
            "gid" => self.gid = Some(decimal(value).ok_or("PAX gid")?),
            "mtime" => self.mtime = Some(timestamp(value).ok_or("PAX mtime")?),
            "GNU.sparse.major" => self.sparse_1_0 = value == b"1",
            "GNU.sparse.name" => self.sparse_name = Some(value.to_vec()),
            "GNU.sparse.realsize" => self.sparse_size = Some(decimal(value).ok_or("PAX sparse size")?),
            _ => {
                if let Some(name) = keyword.strip_prefix(XATTR_RECORD) {
                    self.xattrs.push((name.as_bytes().to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

fn known_empty(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Symlink};
    matches!(kind, Block | Char | Directory | Fifo | Symlink)
}

fn device(header: &Header, kind: EntryType) -> Option<(u32, u32)> {
    if !matches!(kind, EntryType::Block | EntryType::Char) {
        return Some((0, 0));
    }
    Some((header.device_major().ok()??, header.device_minor().ok()??))
}

/// The header's time; GNU and Go write one before 1970 in base 256, two's complement.
fn header_mtime(header: &Header) -> Option<i64> {
    let field = &header.as_bytes()[136..148];
    if field[0] == 0xff {
        let tail: [u8; 8] = field[4..].try_into().ok()?;
        return Some(i64::from_be_bytes(tail));
    }
    i64::try_from(header.mtime().ok()?).ok()
}

/// The pieces must rise, stay within the file and add up to the data that follows.
fn check_pieces(entry: &Entry, data: u64) -> Result<(), &'static str> {
    let mut end = 0;
    let mut total: u64 = 0;
    for &(offset, length) in &entry.pieces {
        let piece_end = offset.checked_add(length).ok_or("sparse map")?;
        if offset < end || piece_end > entry.size {
            return Err("sparse map");
        }
        end = piece_end;
        total += length;
    }
    if total == data { Ok(()) } else { Err("sparse map does not cover the data") }
}

fn trim_nul(mut name: Vec<u8>) -> Vec<u8> {
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    name.truncate(end);
    name
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Seconds with an optional fraction, digits past the ninth dropped.
fn timestamp(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, value),
    };
    let (seconds, fraction) = match value.iter().position(|&b| b == b'.') {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &b""[..]),
    };
    let seconds = i64::try_from(decimal(seconds)?).ok()?;
    let mut nanoseconds = 0;
    for place in 0..9 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit.checked_sub(b'0').filter(|&d| d < 10)?);
    }
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}
/// The number of a header field; zero if nothing stands there, as GNU tar and Go read it.
fn unless_blank<T: Default>(field: &[u8], number: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(T::default()) } else { number() }
}
