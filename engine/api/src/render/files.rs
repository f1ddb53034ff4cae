use engine::PathStat;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Kinds of files and further bits of a mode: those of stat(2), and those of Go's `os.FileMode`.
const KINDS: [(u32, u32); 6] = [
    (0o040_000, 1 << 31),
    (0o120_000, 1 << 27),
    (0o060_000, 1 << 26),
    (0o010_000, 1 << 25),
    (0o140_000, 1 << 24),
    (0o020_000, 1 << 26 | 1 << 21),
];
const KIND: u32 = 0o170_000;
const BITS: [(u32, u32); 3] = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];

/// What is told of a file beside its archive.
pub(crate) fn path_stat(stat: &PathStat) -> Value {
    let kind = KINDS.iter().find(|(kind, _)| stat.mode & KIND == *kind).map_or(0, |(_, go)| *go);
    let bits: u32 = BITS.iter().filter(|(bit, _)| stat.mode & bit != 0).map(|(_, go)| go).sum();
    let nanoseconds = i32::try_from(stat.modified.1).unwrap_or_default();
    let modified = Timestamp::new(stat.modified.0, nanoseconds).ok();
    json!({
        "name": stat.name.to_string_lossy(),
        "size": stat.size,
        "mode": (stat.mode & 0o777) | kind | bits,
        "mtime": super::time(modified),
        "linkTarget": stat.link.as_ref().map_or_else(String::new, |link| link.display().to_string()),
    })
}
