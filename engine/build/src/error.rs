use std::io;
use std::path::PathBuf;

use engine_image::StoreError;
use engine_image::archive::UnpackError;
use engine_types::ErrorKind;

use crate::diagnostic::Diagnostic;
use crate::sandbox::SandboxError;

/// A failed build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile could not be read.
    #[error("failed to read the Dockerfile {path:?}")]
    ReadDockerfile {
        /// The Dockerfile.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The build context is no directory that can be read.
    #[error("failed to read the build context {path:?}")]
    Context {
        /// The directory, or its list of ignored files.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The list of ignored files has a pattern that means nothing.
    #[error("{path:?}, line {line}: {pattern:?} is no pattern: {reason}")]
    IgnorePattern {
        /// The list.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The Dockerfile, or what one of its lines did.
    #[error(transparent)]
    At(#[from] Diagnostic),
    /// No stage has the name that was asked for.
    #[error("target stage {target:?} could not be found{}", suggestion(.near.as_deref()))]
    UnknownTarget {
        /// What was asked for.
        target: String,
        /// A stage whose name is almost that.
        near: Option<String>,
    },
    /// The directory of the build cache could not be used.
    #[error("failed to {action} {path:?}")]
    Cache {
        /// What was being done.
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The finished image could not be stored.
    #[error("failed to store the image")]
    Store(#[source] StoreError),
}

/// What is wrong at a line of a Dockerfile.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The line is not what the Dockerfile reference says.
    #[error("{0}")]
    Syntax(String),
    /// There is no such instruction.
    #[error("unknown instruction {word:?}{}", suggestion(.near.as_deref()))]
    UnknownInstruction {
        /// The word.
        word: String,
        /// The instruction that was probably meant.
        near: Option<String>,
    },
    /// The instruction has no such flag.
    #[error("unknown flag --{flag} of {instruction}{}", suggestion(.near.as_deref()))]
    UnknownFlag {
        /// The instruction.
        instruction: &'static str,
        /// The flag without its dashes.
        flag: String,
        /// The flag that was probably meant.
        near: Option<String>,
    },
    /// Part of the Dockerfile reference that this builder lacks.
    #[error("not supported yet: {0}")]
    Unsupported(String),
    /// A variable cannot be expanded.
    #[error("failed to expand {word:?}: {reason}")]
    Expand {
        /// The word with the variable.
        word: String,
        /// Why.
        reason: String,
    },
    /// `--from` or `FROM` names neither a stage nor an image.
    #[error("{name:?} is neither an earlier stage nor an image{}", suggestion(.near.as_deref()))]
    UnknownStage {
        /// The name.
        name: String,
        /// The stage that was probably meant.
        near: Option<String>,
    },
    /// `FROM` has nothing left after its variables were expanded.
    #[error("base name ({word}) should not be blank")]
    BlankBase {
        /// What stands in the Dockerfile.
        word: String,
    },
    /// The image could not be had.
    #[error("failed to get the image {image}{}", stage_suggestion(.near.as_deref()))]
    Image {
        /// Its name.
        image: String,
        /// An earlier stage whose name is almost that.
        near: Option<String>,
        /// Why not.
        source: SandboxError,
    },
    /// `COPY` or `ADD` of something absent. The text is Docker's up to where it looked.
    #[error("{instruction} {source_path} {destination}: {missing:?}: not found in {place}")]
    NotFound {
        /// `COPY` or `ADD`.
        instruction: &'static str,
        /// As it stands in the Dockerfile.
        source_path: String,
        /// As it stands in the Dockerfile.
        destination: String,
        /// What was looked for.
        missing: String,
        /// Where it was looked for.
        place: String,
    },
    /// Several files cannot become one.
    #[error(
        "when using {instruction} with more than one source file, the destination must be a directory and end with a /"
    )]
    DestinationNotDirectory {
        /// `COPY` or `ADD`.
        instruction: &'static str,
    },
    /// A directory would replace a file or a file a directory.
    #[error("cannot copy {kind} over {path:?}, which is {existing}")]
    Mismatch {
        /// What is copied.
        kind: &'static str,
        /// The path in the image.
        path: PathBuf,
        /// What is there.
        existing: &'static str,
    },
    /// `--chown` names nobody.
    #[error("--chown={value}: no {what} {name:?} in the image's {file}")]
    UnknownOwner {
        /// The flag's value.
        value: String,
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// Where it was looked for.
        file: &'static str,
    },
    /// A command ended with another code than 0. The text is Docker's.
    #[error("process {command:?} did not complete successfully: exit code: {code}{}", full_disk(.full.as_deref()))]
    ExitCode {
        /// The command with its shell.
        command: String,
        /// Its exit code.
        code: i32,
        /// Where it wrote, if no space is left there.
        full: Option<PathBuf>,
    },
    /// A command could not be run.
    #[error("failed to run {command:?}")]
    Run {
        /// The command with its shell.
        command: String,
        /// Why not.
        source: SandboxError,
    },
    /// A file could not be read or written.
    #[error("failed to {action} {path:?}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path leads through too many symbolic links.
    #[error("too many symbolic links in {0:?}")]
    Loop(PathBuf),
    /// An archive of `ADD` could not be unpacked.
    #[error("failed to unpack {path:?}")]
    Unpack {
        /// The archive in the build context.
        path: PathBuf,
        /// Why.
        source: UnpackError,
    },
    /// The image store failed.
    #[error("failed to store the layer")]
    Store(#[source] StoreError),
    /// The build was given up.
    #[error("the build was cancelled")]
    Cancelled,
}

impl BuildError {
    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ReadDockerfile { source, .. } | Self::Context { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
                _ => ErrorKind::Internal,
            },
            Self::IgnorePattern { .. } | Self::UnknownTarget { .. } => ErrorKind::InvalidArgument,
            Self::At(diagnostic) => diagnostic.problem.kind(),
            Self::Cache { .. } => ErrorKind::Internal,
            Self::Store(e) => e.kind(),
        }
    }
}

impl Problem {
    /// What the problem means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Syntax(_)
            | Self::UnknownInstruction { .. }
            | Self::UnknownFlag { .. }
            | Self::Expand { .. }
            | Self::UnknownStage { .. }
            | Self::BlankBase { .. }
            | Self::NotFound { .. }
            | Self::DestinationNotDirectory { .. }
            | Self::Mismatch { .. }
            | Self::UnknownOwner { .. }
            | Self::Loop(_)
            | Self::ExitCode { .. } => ErrorKind::InvalidArgument,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Image { source, .. } | Self::Run { source, .. } => source.kind,
            Self::Io { .. } => ErrorKind::Internal,
            Self::Unpack { source, .. } => source.kind(),
            Self::Store(e) => e.kind(),
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }
}

fn full_disk(full: Option<&std::path::Path>) -> String {
    full.map_or_else(String::new, |path| {
        format!("; no space left on device: free space on the disk of {}", path.display())
    })
}

fn suggestion(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(", did you mean {near}?"))
}

fn stage_suggestion(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(", did you mean the stage {near}?"))
}

/// The candidate that differs least from `word`, if it could be a slip of the keyboard.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let limit = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|&(distance, candidate)| distance <= limit && candidate.len() > 1)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}
