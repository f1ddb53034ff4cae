//! What the command prints.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// An exit code, of which the system takes the low eight bits.
pub(crate) fn exit(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}

/// Prints a line. A reader that has gone away ends the command as it ends `cat`.
pub(crate) fn line(text: impl Display) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// Prints text that ends its lines itself.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Tells what went wrong, or may. There is nobody left to tell if that fails.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Asks whether to go on; anything but yes is no.
pub(crate) fn confirm(question: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
