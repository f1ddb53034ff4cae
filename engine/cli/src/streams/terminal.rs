use std::io;
use std::os::fd::AsFd;

use rustix::termios::{OptionalActions, Termios};

/// The terminal as it was, to be given back.
#[derive(Debug)]
pub(crate) struct RawMode(Termios);

impl RawMode {
    /// Has the terminal pass keys on unread; none if standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin_is_terminal() {
            return Ok(None);
        }
        let before = rustix::termios::tcgetattr(stdin.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(stdin.as_fd(), OptionalActions::Now, &raw)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &self.0);
    }
}

/// The size of this terminal: rows and columns.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

pub(crate) fn stdin_is_terminal() -> bool {
    rustix::termios::isatty(io::stdin())
}

pub(crate) fn stdout_is_terminal() -> bool {
    rustix::termios::isatty(io::stdout())
}
