//! What the command prints.

use std::io::Write;
use std::process::ExitCode;

/// Prints an error with its causes and gives the exit code that stands for it.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    let remedy = engine::remedy(error.as_ref()).map(|remedy| format!(": {remedy}")).unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "engine: {error:#}{remedy}");
    let code = error.downcast_ref::<engine::Error>().map_or(1, engine::Error::exit_code);
    exit(code)
}

/// An exit code, of which the system takes the low eight bits.
pub(crate) fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

/// Prints a line. A reader that has gone away ends the command as it ends `cat`.
pub(crate) fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// Prints rows in columns as wide as their widest entry, three spaces apart.
pub(crate) fn table(rows: &[Vec<String>]) -> anyhow::Result<()> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |n: usize| {
        rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        line(cells.join("   ").trim_end())?;
    }
    Ok(())
}

/// A number of bytes as Docker prints it: `1.24MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value >= 100.0 || unit == 0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_three_digits() {
        assert_eq!([5, 1240, 12_400_000, 124_000_000_000].map(bytes), ["5B", "1.24kB", "12.4MB", "124GB"]);
    }
}
