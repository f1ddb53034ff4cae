//! Archives that the daemon sends, into a file or to standard output.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use anyhow::Context as _;

use crate::client::Response;
use crate::streams;

/// Fails if there is nowhere for it to go, before anything is asked for.
pub(crate) fn check(output: Option<&Path>, what: &str) -> anyhow::Result<()> {
    match output {
        None => anyhow::ensure!(
            !streams::stdout_is_terminal(),
            "cowardly refusing to save to a terminal. Use the -o flag or redirect"
        ),
        Some(path) => {
            let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let there = directory.is_none_or(Path::is_dir);
            anyhow::ensure!(
                there,
                "failed to {what}: invalid output path: directory {:?} does not exist",
                directory.unwrap_or(path).display().to_string()
            );
        }
    }
    Ok(())
}

/// Writes an answer; a file appears when it is complete.
pub(crate) async fn write(mut answer: Response<'_>, output: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = output else {
        while let Some(piece) = answer.piece().await? {
            streams::write_all(std::io::stdout().as_fd(), &piece)?;
        }
        return Ok(());
    };
    let failed = || format!("write {}", path.display());
    // A pipe or a device is written as it is.
    if path.exists() && !path.is_file() {
        let mut file = std::fs::OpenOptions::new().write(true).open(path).with_context(failed)?;
        while let Some(piece) = answer.piece().await? {
            file.write_all(&piece).with_context(failed)?;
        }
        return Ok(());
    }
    let directory = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(directory).with_context(failed)?;
    while let Some(piece) = answer.piece().await? {
        file.write_all(&piece).with_context(failed)?;
    }
    file.persist(path).with_context(failed)?;
    Ok(())
}
