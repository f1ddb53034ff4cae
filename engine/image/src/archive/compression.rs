use std::io::{self, BufReader, Cursor, Read};

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
/// The longest magic number, xz's.
const MAGIC_BYTES: u64 = 6;

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
    let (start, source) = peek(source)?;
    let compression = Compression::detect(&start);
    let source = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(start).chain(source));
    let reader: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(source)?),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Compression::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(source)),
    };
    Ok((compression, reader))
}

/// Reads the first bytes, however small the pieces are in which a network delivers them.
fn peek<R: Read>(mut source: R) -> io::Result<(Vec<u8>, R)> {
    let mut start = Vec::with_capacity(MAGIC_BYTES as usize);
    (&mut source).take(MAGIC_BYTES).read_to_end(&mut start)?;
    Ok((start, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte a read, as the first packet after a broken connection may.
    struct OneByOne<R>(R);

    impl<R: Read> Read for OneByOne<R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let one = buffer.len().min(1);
            self.0.read(&mut buffer[..one])
        }
    }

    #[test]
    fn detects_what_arrives_byte_by_byte() {
        let zstd = zstd::encode_all(&b"text"[..], 1).unwrap();
        let (compression, mut reader) = decompress(OneByOne(&zstd[..])).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!((compression, text.as_str()), (Compression::Zstd, "text"));
    }

    #[test]
    fn knows_skippable_frames_and_short_streams() {
        assert_eq!(Compression::detect(&[0x5a, 0x2a, 0x4d, 0x18, 0, 0]), Compression::Zstd);
        assert_eq!(Compression::detect(b""), Compression::None);
        assert_eq!(Compression::detect(&[0x1f]), Compression::None);
    }
}
