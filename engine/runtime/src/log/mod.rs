//! Docker's json-file log: one JSON object a line, `{"log":"text\n","stream":"stdout","time":"RFC 3339"}`, with
//! `"attrs":{…}` before the time where there are some. `<path>` is written, `<path>.1` was before it, and so on.

mod forward;
mod line;
mod read;
mod write;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use forward::{Forward, Syslog, SyslogAddress, SyslogFormat};
pub use line::{Line, Lines};
pub use read::Reader;
pub(crate) use write::Writer;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, and all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

fn rotated_path(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests;
