//! Signals by their names.

/// By their number less one, as Linux numbers them on the processors that we run on (signal(7)).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The highest real-time signal.
const LAST: i32 = 64;

/// The number of a signal given as `SIGTERM`, `TERM` (in any case) or `15`.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=LAST).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == name).and_then(|n| i32::try_from(n + 1).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_numbers() {
        let found = ["SIGTERM", "term", "9", "SIGSYS", "HUP"].map(signal_number);
        assert_eq!(found, [Some(15), Some(15), Some(9), Some(31), Some(1)]);
        assert!(["", "SIG", "0", "65", "-9", "NOPE"].iter().all(|text| signal_number(text).is_none()));
    }
}
