//! Names of containers that got none: two words, as Docker's.

/// The left words.
const MOODS: [&str; 32] = [
    "able", "brisk", "calm", "clear", "deft", "eager", "fair", "fleet", "frank", "glad", "grand", "hardy",
    "keen", "light", "lively", "lucid", "merry", "mild", "neat", "noble", "plain", "proud", "quick", "quiet",
    "ready", "sharp", "smart", "sound", "steady", "stout", "swift", "warm",
];
/// The right words: harbour craft and those who work them.
const CRAFT: [&str; 32] = [
    "barge",
    "bosun",
    "brig",
    "buoy",
    "canoe",
    "clipper",
    "coxswain",
    "cutter",
    "dhow",
    "dinghy",
    "docker",
    "drifter",
    "ferry",
    "galley",
    "gig",
    "hoy",
    "ketch",
    "keelman",
    "launch",
    "lugger",
    "mate",
    "pilot",
    "pinnace",
    "punt",
    "raft",
    "schooner",
    "skiff",
    "sloop",
    "stevedore",
    "tender",
    "tug",
    "yawl",
];

/// A name drawn from an id's bytes, with a short number to keep it unique in practice.
pub(crate) fn from_random(bytes: [u8; 32]) -> String {
    let pick = |list: &[&'static str; 32], byte: u8| list[usize::from(byte) % list.len()];
    format!("{}_{}_{}", pick(&MOODS, bytes[0]), pick(&CRAFT, bytes[1]), hex::encode(&bytes[2..5]))
}

/// Whether a name may be given: Docker's `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
pub(crate) fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() > 1
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_names_are_valid() {
        assert!((0..=255).all(|b| is_valid(&from_random([b; 32]))));
        assert!(["", "a", "-ab", "a b", "ä1", "a/b"].iter().all(|name| !is_valid(name)));
    }
}
