use bytes::Bytes;

/// What detaches unless something else is said.
pub(crate) const DEFAULT_DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// A sequence of keys that leaves a container without ending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them have been typed.
    typed: usize,
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`, or `a,b`; none for no text.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Option<Self>> {
        if text.is_empty() {
            return Ok(None);
        }
        let keys = text.split(',').map(|key| key_code(key).ok_or(key)).collect::<Result<Vec<u8>, &str>>();
        match keys {
            Ok(keys) => Ok(Some(Self { keys, typed: 0 })),
            Err(key) => anyhow::bail!("invalid detach keys ({text}): Unknown character: '{key}'"),
        }
    }

    /// What of the input goes on, and whether the whole sequence was in it.
    pub(crate) fn filter(&mut self, input: &Bytes) -> (Bytes, bool) {
        if self.typed == 0 && !input.contains(&self.keys[0]) {
            return (input.clone(), false);
        }
        let mut passed = Vec::with_capacity(input.len());
        for &byte in input {
            if byte == self.keys[self.typed] {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return (passed.into(), true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.typed]);
            self.typed = usize::from(byte == self.keys[0] && self.keys.len() > 1);
            if self.typed == 0 {
                passed.push(byte);
            }
        }
        (passed.into(), false)
    }
}

fn key_code(key: &str) -> Option<u8> {
    if let [byte] = key.as_bytes() {
        return Some(*byte);
    }
    match key.strip_prefix("ctrl-")?.as_bytes() {
        [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
        b"@" => Some(0),
        b"[" => Some(27),
        b"\\" => Some(28),
        b"]" => Some(29),
        b"^" => Some(30),
        b"_" => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &mut DetachKeys, text: &[u8]) -> (Vec<u8>, bool) {
        let (passed, detached) = keys.filter(&Bytes::copy_from_slice(text));
        (passed.to_vec(), detached)
    }

    #[test]
    fn the_sequence_detaches_and_nothing_else_is_lost() {
        let keys = DetachKeys::parse(DEFAULT_DETACH_KEYS).unwrap().unwrap();
        let mut once = keys.clone();
        assert_eq!(typed(&mut once, b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(typed(&mut once, b"a\x10\x11b"), (b"a".to_vec(), true));
        let mut apart = keys.clone();
        assert_eq!(typed(&mut apart, b"a\x10"), (b"a".to_vec(), false));
        assert_eq!(typed(&mut apart, b"\x11"), (Vec::new(), true));
        let mut other = keys;
        assert_eq!(typed(&mut other, b"\x10x\x10\x10"), (b"\x10x\x10".to_vec(), false));
        assert_eq!(typed(&mut other, b"y"), (b"\x10y".to_vec(), false));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        assert_eq!(DetachKeys::parse("").unwrap(), None);
        assert!(DetachKeys::parse("a,ctrl-[,ctrl-@").is_ok());
        let error = DetachKeys::parse("ctrl-p,shift-q").unwrap_err().to_string();
        assert_eq!(error, "invalid detach keys (ctrl-p,shift-q): Unknown character: 'shift-q'");
    }
}
