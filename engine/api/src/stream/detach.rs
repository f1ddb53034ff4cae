//! Keys that end a client's attachment to a terminal, and nothing else.

use crate::error::ApiError;

/// What ends an attachment where nobody says otherwise; Docker's.
const DEFAULT: &str = "ctrl-p,ctrl-q";

/// Looks for the keys in what a client types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them came last.
    matched: usize,
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q` or `a,b`; the default if there is nothing.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        let text = text.unwrap_or(DEFAULT);
        let invalid = || ApiError::Invalid(format!("Invalid detach keys ({text}) provided"));
        let keys = text.split(',').map(key).collect::<Option<_>>().ok_or_else(invalid)?;
        Ok(Self { keys, matched: 0 })
    }

    /// Passes on what was typed; true once it was the keys, which are not passed on, nor what follows.
    pub(super) fn pass(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for &byte in typed {
            if byte != self.keys[self.matched] {
                out.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte != self.keys[self.matched] {
                out.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                return true;
            }
        }
        false
    }
}

/// A single character, or `ctrl-` and a letter or one of `@[\]^_`.
fn key(text: &str) -> Option<u8> {
    match (text.as_bytes(), text.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([byte], _) => Some(*byte),
        (_, Some([letter @ b'a'..=b'z'])) => Some(letter - b'a' + 1),
        (_, Some([b'@'])) => Some(0),
        (_, Some([sign @ b'['..=b'_'])) => Some(sign - b'[' + 27),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: Option<&str>, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = DetachKeys::parse(keys).unwrap();
        let mut out = Vec::new();
        let detached = pieces.iter().any(|piece| keys.pass(piece, &mut out));
        (out, detached)
    }

    #[test]
    fn the_keys_end_it_and_all_else_passes() {
        assert_eq!(typed(None, &[b"ls\n\x10", b"\x11rest"]), (b"ls\n".to_vec(), true));
        assert_eq!(typed(None, &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(typed(None, &[b"\x10x\x11"]), (b"\x10x\x11".to_vec(), false));
        assert_eq!(typed(Some("ctrl-x"), &[b"a\x18"]), (b"a".to_vec(), true));
        assert_eq!(typed(Some("a,ctrl-_"), &[b"a\x1f"]), (Vec::new(), true));
        assert!(DetachKeys::parse(Some("ctrl-A")).is_err() && DetachKeys::parse(Some("")).is_err());
    }
}
