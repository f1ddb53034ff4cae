//! Runs pipelines on the built-in engine.

pub mod artifacts;
pub mod cache;
pub mod event;
pub mod inside;
pub mod junit;
pub mod mask;
pub mod output;
pub mod runner;
pub mod secrets;
pub mod source;
pub mod workspace;

#[cfg(test)]
mod test_git;

/// An error with its causes, and what to do about it where that is known, in a line.
pub fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        // A transparent error repeats its cause.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    if let Some(remedy) = engine::remedy(error) {
        text.push_str(": ");
        text.push_str(remedy);
    }
    text
}
