//! What goes wrong, and the exit code that tells so.

use std::process::ExitCode;

use crate::client::ClientError;

/// An end with a code of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Prints an error and gives the exit code that stands for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(io) = error.downcast_ref::<std::io::Error>()
        && io.kind() == std::io::ErrorKind::BrokenPipe
    {
        // Whoever read what was printed has gone: this ends as a signal would have ended it.
        return ExitCode::from(141);
    }
    let remedy = engine::remedy(error.as_ref()).map(|remedy| format!(": {remedy}")).unwrap_or_default();
    let message = in_gos_words(&format!("{error:#}{remedy}"));
    if !message.is_empty() {
        crate::output::complain(&message);
    }
    let code = error.downcast_ref::<Failure>().map(|failure| i32::from(failure.code));
    let code = code.or_else(|| error.downcast_ref::<engine::Error>().map(engine::Error::exit_code));
    crate::output::exit(code.unwrap_or(1))
}

/// What the system says, as Go says it: in small letters, without a number.
fn in_gos_words(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(" (os error ") {
        let (before, after) = rest.split_at(at);
        let start = before.rfind(": ").map_or(0, |at| at + 2);
        out.push_str(&before[..start]);
        out.push_str(&before[start..].to_lowercase());
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// The code of a container that could not be started, by what the daemon says of it: 127 where there is no such
/// program, 126 where it cannot be run, 125 else.
pub(crate) fn start_code(error: &ClientError) -> u8 {
    let text = error.to_string().to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if says(&["executable file not found", "no such file or directory", "system cannot find the file"]) {
        127
    } else if says(&["permission denied", "is a directory", "exec format error"])
        && !matches!(error, ClientError::Denied { .. })
    {
        126
    } else {
        125
    }
}

#[cfg(test)]
mod tests {
    use super::in_gos_words;

    #[test]
    fn what_the_system_says_is_in_small_letters() {
        assert_eq!(
            in_gos_words("Open /X: No such file or directory (os error 2): Do something"),
            "Open /X: no such file or directory: Do something"
        );
        assert_eq!(in_gos_words("Plain text"), "Plain text");
    }
}
