use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, json_schema};
use serde::{Deserialize, Serialize};

/// The longest time that a job or a step may be given.
const MAX_DURATION_SECS: u64 = 7 * 24 * 3600;
/// The suffixes of durations and their seconds, as Go's and systemd's.
const DURATION_UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
/// The suffixes of sizes and their bytes, as Docker's: `m` and `MB` are 1024 × 1024 too.
const SIZE_UNITS: [(&str, u64); 4] = [("k", 1 << 10), ("m", 1 << 20), ("g", 1 << 30), ("t", 1 << 40)];

/// A length of time in whole seconds, written with units: `90s`, `30m`, `1h30m`, `2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Duration {
    seconds: u64,
}

/// A string that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseDurationError {
    /// A plain number, whose unit can only be guessed.
    #[error("the duration {0:?} has no unit")]
    NoUnit(String),
    /// Not numbers with the units d, h, m and s.
    #[error("{0:?} is not a duration")]
    Format(String),
    /// Zero, or more than a week.
    #[error("the duration {0:?} is not between 1s and 7d")]
    Range(String),
}

impl Duration {
    /// A number of seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self { seconds }
    }

    /// The standard library's form.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.seconds)
    }
}

impl FromStr for Duration {
    type Err = ParseDurationError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let format_error = || ParseDurationError::Format(s.to_owned());
        if !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseDurationError::NoUnit(s.to_owned()));
        }
        let mut rest = s;
        let mut seconds: u64 = 0;
        // Each unit at most once and the larger first, so that 30m1h is not taken for something else.
        for (unit, length) in DURATION_UNITS {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let Some(after) = rest[digits..].strip_prefix(unit) else { continue };
            let count: u64 = rest[..digits].parse().map_err(|_| format_error())?;
            seconds = seconds.saturating_add(count.saturating_mul(length));
            rest = after;
        }
        if s.is_empty() || !rest.is_empty() {
            return Err(format_error());
        }
        if seconds == 0 || seconds > MAX_DURATION_SECS {
            return Err(ParseDurationError::Range(s.to_owned()));
        }
        Ok(Self { seconds })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.seconds;
        for (unit, length) in DURATION_UNITS {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        if self.seconds == 0 { f.write_str("0s") } else { Ok(()) }
    }
}

/// A number of bytes, written with a unit: `512MiB`, `2g`. All units are powers of 1024, as Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    bytes: u64,
}

/// A string that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseSizeError {
    /// A plain number, whose unit can only be guessed.
    #[error("the size {0:?} has no unit")]
    NoUnit(String),
    /// Not a whole number with a unit, or more than 64 bits of bytes.
    #[error("{0:?} is not a size")]
    Format(String),
}

impl Size {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.bytes
    }
}

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let format_error = || ParseSizeError::Format(s.to_owned());
        let digits = s.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = s[..digits].parse().map_err(|_| format_error())?;
        let unit = s[digits..].trim_start().to_ascii_lowercase();
        let length = match unit.as_str() {
            "" => return Err(ParseSizeError::NoUnit(s.to_owned())),
            "b" => 1,
            unit => {
                let letter = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(unit);
                SIZE_UNITS.iter().find(|(name, _)| *name == letter).ok_or_else(format_error)?.1
            }
        };
        Ok(Self { bytes: count.checked_mul(length).filter(|&n| n > 0).ok_or_else(format_error)? })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS.iter().rev().find(|(_, length)| self.bytes.is_multiple_of(*length));
        match exact {
            Some((unit, length)) if self.bytes > 0 => {
                write!(f, "{}{}iB", self.bytes / length, unit.to_ascii_uppercase())
            }
            _ => write!(f, "{}b", self.bytes),
        }
    }
}

macro_rules! string_value {
    ($name:ident, $error:ident, $schema:tt) => {
        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(s: String) -> Result<Self, Self::Error> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                json_schema!($schema)
            }
        }
    };
}

// The editors' `duration` and others are other grammars, hence the prefix.
string_value!(Duration, ParseDurationError, { "type": "string", "format": "ci-duration", "examples": ["90s", "30m", "1h30m"] });
string_value!(Size, ParseSizeError, { "type": "string", "format": "ci-size", "examples": ["512MiB", "2g"] });

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_duration(input: &str, expected: Result<(u64, &str), ParseDurationError>) {
        let expected = expected.map(|(seconds, written)| (Duration::from_secs(seconds), written.to_owned()));
        assert_eq!(input.parse::<Duration>().map(|d| (d, d.to_string())), expected);
    }

    #[test]
    fn reads_durations() {
        check_duration("90s", Ok((90, "1m30s")));
        check_duration("30m", Ok((1800, "30m")));
        check_duration("1h30m", Ok((5400, "1h30m")));
        check_duration("7d", Ok((604_800, "7d")));
    }

    #[test]
    fn refuses_other_durations() {
        check_duration("30", Err(ParseDurationError::NoUnit("30".into())));
        check_duration("7d1s", Err(ParseDurationError::Range("7d1s".into())));
        check_duration("99999999999999999d", Err(ParseDurationError::Range("99999999999999999d".into())));
        check_duration("0s", Err(ParseDurationError::Range("0s".into())));
        for bad in ["", "m", "1x", "30m1h", "1.5h", "-1s", "1h 30m", "1m1m", "5mm", "99999999999999999999s"] {
            check_duration(bad, Err(ParseDurationError::Format(bad.into())));
        }
    }

    #[track_caller]
    fn check_size(input: &str, expected: Result<(u64, &str), ParseSizeError>) {
        let expected = expected.map(|(bytes, written)| (Size { bytes }, written.to_owned()));
        assert_eq!(input.parse::<Size>().map(|d| (d, d.to_string())), expected);
    }

    #[test]
    fn reads_sizes() {
        check_size("512MiB", Ok((512 << 20, "512MiB")));
        check_size("2g", Ok((2 << 30, "2GiB")));
        check_size("64 KB", Ok((64 << 10, "64KiB")));
        check_size("100b", Ok((100, "100b")));
    }

    #[test]
    fn refuses_other_sizes() {
        check_size("512", Err(ParseSizeError::NoUnit("512".into())));
        for bad in ["", "m", "1.5g", "-1g", "1x", "0m", "99999999999t", "1gg", "1ibib"] {
            check_size(bad, Err(ParseSizeError::Format(bad.into())));
        }
    }
}
