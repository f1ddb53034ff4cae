use jiff::{SignedDuration, Timestamp};

/// A span of time in words, as Docker's go-units.
pub(super) fn duration(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
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
        () => format!("{} years", hours / 24 / 365),
    }
}

/// A bar of fifty characters and how far it is, as Docker's JSON progress.
pub(super) fn progress(current: u64, total: u64) -> String {
    let at = usize::try_from((u128::from(current) * 50) / u128::from(total.max(1))).unwrap_or(50).min(50);
    let arrow = if at < 50 { ">" } else { "" };
    let (bar, rest) = ("=".repeat(at), " ".repeat(50 - at - arrow.len()));
    format!("[{bar}{arrow}{rest}] {:>8}/{}", size(current), size(total))
}

/// A number of bytes in decimal units, as Docker's go-units.
pub(super) fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    // Four significant digits.
    let decimals = match value {
        value if value < 10.0 => 3,
        value if value < 100.0 => 2,
        value if value < 1000.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// How long ago that was.
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    duration(now.duration_since(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_982_380, "1.982MB"), (123_456_789, "123.5MB")]
        {
            assert_eq!(size(bytes), text);
        }
        assert!(progress(50, 100).starts_with("[=========================>                        ]"));
        assert!(progress(100, 100).starts_with("[==================================================]"));
    }

    #[test]
    fn reads_as_dockers() {
        let read = |seconds| duration(SignedDuration::from_secs(seconds));
        let expected = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (600, "10 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (259_200, "3 days"),
            (1_814_400, "3 weeks"),
            (7_776_000, "3 months"),
            (94_608_000, "3 years"),
        ];
        for (seconds, text) in expected {
            assert_eq!(read(seconds), text, "{seconds}");
        }
    }
}
