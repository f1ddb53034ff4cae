use std::time::Duration;

/// A duration as people read it: `850ms`, `3.2s`, `1m 05s`, `1h 02m 05s`. Cut, not rounded, so that 59.99 seconds
/// never become `60.0s`.
pub(super) fn duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{}ms", duration.as_millis())
    } else if duration < Duration::from_secs(60) {
        format!("{}.{}s", duration.as_secs(), duration.subsec_millis() / 100)
    } else {
        clock(duration)
    }
}

/// A duration in whole seconds, for a display that counts up: `3s`, `1m 05s`, `1h 02m 05s`.
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, m, s) => format!("{h}h {m:02}m {s:02}s"),
    }
}

/// A number of bytes in decimal units, as Docker prints sizes: `812 B`, `3.1 kB`, `40.0 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut rest, mut unit) = (bytes, 0);
    while rest >= 1_000_000 && unit + 1 < UNITS.len() {
        rest /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", rest / 1000, rest % 1000 / 100, UNITS[unit])
}

/// A number and its noun: `1 test`, `2 tests`.
pub(super) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_at_every_size() {
        for (millis, text) in [
            (0, "0ms"),
            (850, "850ms"),
            (999, "999ms"),
            (1000, "1.0s"),
            (3249, "3.2s"),
            (59_999, "59.9s"),
            (60_000, "1m 00s"),
            (65_999, "1m 05s"),
            (3_599_999, "59m 59s"),
            (3_725_000, "1h 02m 05s"),
            (360_000_000, "100h 00m 00s"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), text, "{millis} ms");
        }
        assert_eq!(clock(Duration::from_millis(3900)), "3s");
    }

    #[test]
    fn bytes_read_well_at_every_size() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_999, "999.9 kB"),
            (31_400_000, "31.4 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
