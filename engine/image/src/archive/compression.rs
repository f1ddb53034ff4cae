use std::io::{self, BufRead, BufReader, Read};

/// How the bytes of an archive are compressed, told by their first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all, or in no way known here.
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// bzip2, as `ADD` accepts it; no layer media type exists for it.
    Bzip2,
    /// xz, as `ADD` accepts it; no layer media type exists for it.
    Xz,
}

/// Bytes read from the source at once.
const BUFFER_BYTES: usize = 128 * 1024;

impl Compression {
    /// Tells the compression by the first bytes of a stream; six are enough.
    pub fn detect(start: &[u8]) -> Self {
        // A zstd stream may begin with a skippable frame (RFC 8878, 3.1.2), as pzstd writes.
        let skippable = start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18];
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ if skippable => Self::Zstd,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// Reads `source` decompressed, whatever of the known compressions it has.
///
/// # Errors
/// Those of reading the first bytes; bad compressed data shows while reading.
pub fn decompress<'a>(source: impl Read + Send + 'a) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut source = BufReader::with_capacity(BUFFER_BYTES, source);
    let compression = Compression::detect(peek(&mut source)?);
    let reader: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Compression::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(source)),
    };
    Ok((compression, reader))
}

/// The first bytes, without consuming them. A first read shorter than a magic number is taken as it is: the
/// sources are files and large network buffers, where only an empty or hopeless stream is that short.
fn peek(source: &mut impl BufRead) -> io::Result<&[u8]> {
    source.fill_buf()
}
