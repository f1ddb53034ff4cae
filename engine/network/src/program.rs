use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use engine_types::ErrorKind;

/// Where Debian and others install `nft` and `iptables`, which a user's `PATH` need not hold.
const SYSTEM_DIRS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// A program that could not be run or that failed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not installed.
    #[error("{program} not found: install the {package} package")]
    NotFound {
        /// The program's name.
        program: &'static str,
        /// The package that has it, as Debian calls it.
        package: &'static str,
    },
    /// It could not be started or spoken to.
    #[error("cannot run {}", program.display())]
    Run {
        /// The program's path.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("{} cannot {step}: {message}", program.display())]
    Failed {
        /// The program's path.
        program: PathBuf,
        /// What it was to do.
        step: String,
        /// What it wrote to its standard error.
        message: String,
    },
}

impl ProgramError {
    /// What this error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::Unsupported,
            Self::Failed { message, .. } if message.contains("Operation not permitted") => {
                ErrorKind::Unsupported
            }
            Self::Run { .. } | Self::Failed { .. } => ErrorKind::Internal,
        }
    }

    /// Whether the program failed because an object that it was told of does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Failed { message, .. } if message.contains("No such file or directory"))
    }

    /// Whether the program failed because an object that it was to make stands in another's place.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, Self::Failed { message, .. } if message.contains("File exists"))
    }
}

/// Finds a program on `PATH` and in the system's directories.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_DIRS.map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// Runs a program, feeds it `input` and returns its standard output.
pub(crate) fn run(program: PathBuf, args: &[&str], input: &str, step: &str) -> Result<String, ProgramError> {
    let exchange = || {
        let mut child = Command::new(&program)
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends without reading says why on its standard error.
            match stdin.write_all(input.as_bytes()) {
                Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e),
                _ => {}
            }
        }
        child.wait_with_output()
    };
    let output = match exchange() {
        Ok(output) => output,
        Err(source) => return Err(ProgramError::Run { program, source }),
    };
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ProgramError::Failed { program, step: step.to_owned(), message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let sh = find("sh").unwrap();
        let error = run(sh, &["-c", "cat >&2; exit 3"], "no such thing\n", "try").unwrap_err();
        assert!(error.to_string().ends_with("cannot try: no such thing"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Internal);
    }

    #[test]
    fn an_early_end_of_the_program_is_no_broken_pipe() {
        let sh = find("sh").unwrap();
        let error = run(sh, &["-c", "echo gone >&2; exit 1"], &"x".repeat(1 << 20), "read").unwrap_err();
        assert!(error.to_string().ends_with("cannot read: gone"), "{error}");
    }
}
