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

/// How long ago that was.
pub(super) fn since(then: Timestamp, now: Timestamp) -> String {
    duration(now.duration_since(then))
}

#[cfg(test)]
mod tests {
    use super::*;

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
