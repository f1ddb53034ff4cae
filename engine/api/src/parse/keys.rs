//! `--detach-keys`: by which keys a client leaves a terminal that it is attached to.

use crate::error::ApiError;

/// Ctrl-P, Ctrl-Q.
const DEFAULT: [u8; 2] = [16, 17];

/// Reads keys separated by commas, each a character or `ctrl-` and one of `a` to `z`, `@`, `[`, `\`, `]`, `^`, `_`.
/// Docker's are meant where none are given.
pub(crate) fn detach_keys(text: Option<&str>) -> Result<Vec<u8>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(DEFAULT.to_vec()) };
    let invalid = || ApiError::Invalid(format!("Invalid detach keys ({text}) provided"));
    text.split(',').map(|key| code(key).ok_or_else(invalid)).collect()
}

fn code(key: &str) -> Option<u8> {
    if let [one] = key.as_bytes() {
        return one.is_ascii().then_some(*one);
    }
    let [one] = key.strip_prefix("ctrl-")?.as_bytes() else { return None };
    match one.to_ascii_lowercase() {
        letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
        b'@' => Some(0),
        other @ b'['..=b'_' => Some(other - b'[' + 27),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_reads_them() {
        let read = |text| detach_keys(Some(text));
        assert_eq!(read("").unwrap(), [16, 17]);
        assert_eq!(read("ctrl-a,d").unwrap(), [1, b'd']);
        assert_eq!(read("ctrl-@,ctrl-[,ctrl-_").unwrap(), [0, 27, 31]);
        for text in ["ctrl-", "ctrl-1", "alt-x", "ab", "a,"] {
            let refused = read(text).unwrap_err().message();
            assert_eq!(refused, format!("Invalid detach keys ({text}) provided"));
        }
    }
}
