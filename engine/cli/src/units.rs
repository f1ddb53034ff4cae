//! Numbers, times and names as Docker writes and reads them.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// Digits of an id that people read.
const SHORT_ID: usize = 12;

/// A number of bytes in decimal units: `1.24MB`.
pub(crate) fn bytes(count: f64) -> String {
    scaled(count, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 4)
}

/// The same with three digits, as sizes of containers are shown.
pub(crate) fn short_bytes(count: f64) -> String {
    scaled(count, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 3)
}

/// A number of bytes in binary units: `1.5GiB`.
pub(crate) fn binary_bytes(count: f64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 4)
}

fn scaled(mut value: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while value >= base && unit < units.len() - 1 {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// Go's `%.Ng`: so many significant digits, without zeros at the end.
fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponent = format!("{value:.*e}", digits - 1);
    let exponent: i32 = exponent.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    if exponent >= i32::try_from(digits).unwrap_or(i32::MAX) {
        let text = format!("{value:.*e}", digits - 1);
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let mantissa = if mantissa.contains('.') {
            mantissa.trim_end_matches('0').trim_end_matches('.')
        } else {
            mantissa
        };
        return format!("{mantissa}e+{exponent:0>2}");
    }
    let decimals = usize::try_from(i32::try_from(digits).unwrap_or(0) - 1 - exponent).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Reads a size: a number, a unit of powers of 1024, perhaps `iB` or `b`: `1.5g`, `512MiB`.
pub(crate) fn parse_size(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let lower = text.trim_end().to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &lower[number.len()..];
    let unit = unit.strip_suffix('b').unwrap_or(unit);
    let unit = if unit.len() > 1 { unit.strip_suffix('i').unwrap_or(unit) } else { unit };
    let power = match unit {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return Err(invalid()),
    };
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value: f64 = if plain { number.parse().map_err(|_| invalid())? } else { return Err(invalid()) };
    let bytes = value * 1024_f64.powi(power);
    // Beyond this a double is no count of bytes any more.
    if bytes < 9.2e18 { Ok(bytes as i64) } else { Err(invalid()) }
}

/// How long ago, roughly: `3 minutes`.
pub(crate) fn human_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds as f64 / 3600.0).round() as i64);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// How long ago a time was.
pub(crate) fn ago(time: Timestamp) -> String {
    format!("{} ago", human_duration(Timestamp::now().duration_since(time)))
}

/// A time as Go prints it: `2024-05-01 10:00:00 +0200 CEST`.
pub(crate) fn go_time(time: Timestamp) -> String {
    time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.f %z %Z").to_string()
}

/// The first digits of an id, without the name of its hash.
pub(crate) fn short_id(id: &str) -> &str {
    let digits = id.split_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..SHORT_ID).unwrap_or(digits)
}

/// At most so many letters, the last a sign of more.
pub(crate) fn ellipsis(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let kept = text.chars().take(length.saturating_sub(1));
    kept.chain(['…']).collect()
}

/// A point in time as the API takes it: a Unix time, a date, or a time before now.
pub(crate) fn parse_time(text: &str) -> anyhow::Result<String> {
    let unix = text.split_once('.').unwrap_or((text, "0"));
    if !text.is_empty() && [unix.0, unix.1].iter().all(|part| part.chars().all(|c| c.is_ascii_digit())) {
        return Ok(text.to_owned());
    }
    if let Ok(before) = engine::build::parse_duration(text) {
        let time = Timestamp::now().checked_sub(SignedDuration::from_nanos(before))?;
        return Ok(unix_time(time));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(unix_time(time));
    }
    let local =
        text.parse::<jiff::civil::DateTime>().or_else(|_| text.parse::<jiff::civil::Date>().map(Into::into));
    match local {
        Ok(local) => Ok(unix_time(local.to_zoned_datetime(TimeZone::system())?.timestamp())),
        Err(_) => anyhow::bail!("failed to parse value as time or duration: {text:?}"),
    }
}

fn unix_time(time: Timestamp) -> String {
    format!("{}.{:09}", time.as_second(), time.subsec_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_as_many_digits_as_docker_gives_them() {
        let shown = [5.0, 1240.0, 12_345_678.0, 124_000_000_000.0, 0.0, 999_999.0].map(bytes);
        assert_eq!(shown, ["5B", "1.24kB", "12.35MB", "124GB", "0B", "1000kB"]);
        assert_eq!([4_494_000.0, 21_500_000.0].map(short_bytes), ["4.49MB", "21.5MB"]);
        assert_eq!([1_610_612_736.0, 6_352_896.0].map(binary_bytes), ["1.5GiB", "6.059MiB"]);
    }

    #[test]
    fn sizes_are_read() {
        let read = ["1024", "1k", "1.5g", "512MiB", "2 kb", "0", "1b"].map(|text| parse_size(text).unwrap());
        assert_eq!(read, [1024, 1024, 1_610_612_736, 536_870_912, 2048, 0, 1]);
        for text in ["", "x", "-1", "1x", "1.", "1e3", "99999999p", "m"] {
            assert_eq!(parse_size(text).unwrap_err(), format!("invalid size: '{text}'"));
        }
    }

    #[test]
    fn durations_are_rough() {
        let shown = |seconds| human_duration(SignedDuration::from_secs(seconds));
        let all =
            [0, 1, 59, 60, 119, 120, 3599, 3600, 7200, 86_400, 200_000, 1_300_000, 10_000_000, 100_000_000];
        insta::assert_snapshot!(all.map(shown).join(", "), @"Less than a second, 1 second, 59 seconds, About a minute, About a minute, 2 minutes, 59 minutes, About an hour, 2 hours, 24 hours, 2 days, 2 weeks, 3 months, 3 years");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!((ellipsis("abcdef", 4), ellipsis("abcd", 4)), ("abc…".to_owned(), "abcd".to_owned()));
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }

    #[test]
    fn times_are_read() {
        assert_eq!(parse_time("1700000000.5").unwrap(), "1700000000.5");
        assert_eq!(parse_time("2024-01-02T03:04:05Z").unwrap(), "1704164645.000000000");
        assert!(parse_time("10m").unwrap().parse::<f64>().unwrap() > 1.7e9);
        assert!(parse_time("2024-01-02").is_ok() && parse_time("2024-01-02T03:04:05").is_ok());
        assert!(parse_time("yesterday").unwrap_err().to_string().contains("failed to parse value as time"));
    }
}
