//! The SHA-256 of files, remembered for as long as a file's status says that it has not changed.
//!
//! `<cache>/files/<hex of the context's path>`: records of 80 bytes, [`Key`] and hash, all numbers little-endian.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

/// More records than this are not kept from build to build; only those of the last build are then.
const RECORDS_MAX: usize = 500_000;
/// A file changed less than this long ago may change again without its times showing it: the kernel's clock for
/// them ticks every 1 to 10 ms.
const SETTLED_NANOS: u128 = 50_000_000;
const BUFFER_BYTES: usize = 128 * 1024;
const RECORD_BYTES: usize = KEY_NUMBERS * 8 + 32;
const KEY_NUMBERS: usize = 6;

/// Device, inode, size, modification and change time in nanoseconds, mode.
type Key = [u64; KEY_NUMBERS];

/// The remembered hashes of one build context and of the layers its builds copy from.
#[derive(Debug)]
pub(crate) struct FileHashes {
    /// Where they are kept from build to build, if they are.
    path: Option<PathBuf>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    known: HashMap<Key, [u8; 32]>,
    used: HashMap<Key, [u8; 32]>,
    loaded: bool,
    changed: bool,
}

impl FileHashes {
    /// Uses the file at `path`, which is read when first needed. A damaged one is as good as none.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path: Some(path), table: Mutex::default() }
    }

    /// Keeps them for one build, whose files nobody will see again.
    pub(crate) fn for_once() -> Self {
        Self { path: None, table: Mutex::default() }
    }

    /// The hash of a file's content, if it is known.
    pub(crate) fn find(&self, meta: &Metadata) -> Option<[u8; 32]> {
        let key = key_of(meta);
        let mut table = self.lock();
        if !table.loaded {
            table.loaded = true;
            table.known = self.path.as_deref().and_then(read).unwrap_or_default();
        }
        let hash = table.used.get(&key).or_else(|| table.known.get(&key)).copied()?;
        table.used.insert(key, hash);
        Some(hash)
    }

    /// Hashes the content of an open file and remembers it. The status was asked before the content is read.
    pub(crate) fn hash(&self, file: &mut File, meta: &Metadata) -> io::Result<[u8; 32]> {
        let key = key_of(meta);
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
        let hash = hasher.finalize().into();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let changed = u128::from(key[4]);
        if changed + SETTLED_NANOS < now {
            let mut table = self.lock();
            table.used.insert(key, hash);
            table.changed = true;
        }
        Ok(hash)
    }

    /// Writes what was learnt, aside and renamed. Losing it only costs time, so failures are not reported.
    pub(crate) fn save(&self) {
        let mut table = self.lock();
        let Some(path) = self.path.as_deref().filter(|_| table.changed) else { return };
        if table.known.len() + table.used.len() <= RECORDS_MAX {
            let known = std::mem::take(&mut table.known);
            for (key, hash) in known {
                table.used.entry(key).or_insert(hash);
            }
        }
        let mut bytes = Vec::with_capacity(table.used.len() * RECORD_BYTES);
        for (key, hash) in &table.used {
            bytes.extend(key.iter().flat_map(|number| number.to_le_bytes()));
            bytes.extend(hash);
        }
        if let Err(error) = crate::cache::replace_file(path, &bytes) {
            tracing::debug!(path = %path.display(), %error, "file hashes are not remembered");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No panic leaves the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> Option<HashMap<Key, [u8; 32]>> {
    let bytes = fs::read(path).ok()?;
    let record = |record: &[u8]| {
        let (numbers, hash) = record.split_at(KEY_NUMBERS * 8);
        let mut key = [0; KEY_NUMBERS];
        for (number, bytes) in key.iter_mut().zip(numbers.chunks_exact(8)) {
            *number = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        Some((key, hash.try_into().ok()?))
    };
    if bytes.len() % RECORD_BYTES != 0 {
        None
    } else {
        bytes.chunks_exact(RECORD_BYTES).map(record).collect()
    }
}

fn key_of(meta: &Metadata) -> Key {
    let nanos =
        |seconds: i64, nanos: i64| (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanos as u64);
    [
        meta.dev(),
        meta.ino(),
        meta.size(),
        nanos(meta.mtime(), meta.mtime_nsec()),
        nanos(meta.ctime(), meta.ctime_nsec()),
        u64::from(meta.mode()),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn hash(files: &FileHashes, path: &Path) -> [u8; 32] {
        let mut file = File::open(path).unwrap();
        let meta = file.metadata().unwrap();
        files.hash(&mut file, &meta).unwrap()
    }

    #[test]
    fn remembers_a_file_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let (path, table) = (dir.path().join("file"), dir.path().join("table"));
        fs::write(&path, "one").unwrap();
        // What changed just now may change again within the same tick of the clock.
        let files = FileHashes::new(table.clone());
        let ticks = SystemTime::now() + Duration::from_nanos(SETTLED_NANOS as u64);
        while SystemTime::now() <= ticks {
            std::hint::spin_loop();
        }
        let first = hash(&files, &path);
        files.save();
        let again = FileHashes::new(table.clone());
        assert_eq!(again.find(&fs::metadata(&path).unwrap()), Some(first));
        fs::write(&path, "two").unwrap();
        assert_eq!(again.find(&fs::metadata(&path).unwrap()), None);
        let young = hash(&again, &path);
        assert_ne!(young, first);
        assert_eq!(again.find(&fs::metadata(&path).unwrap()), None, "too young to be remembered");
    }

    #[test]
    fn a_damaged_table_is_as_good_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let (path, table) = (dir.path().join("file"), dir.path().join("table"));
        fs::write(&path, "one").unwrap();
        fs::write(&table, "nonsense").unwrap();
        assert_eq!(FileHashes::new(table).find(&fs::metadata(&path).unwrap()), None);
    }
}
