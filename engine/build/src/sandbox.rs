use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};

use engine_image::Image;
use engine_types::{ErrorKind, Reference};

/// Where commands run and images come from. The engine's core implements it with containers and registries.
pub trait Sandbox: Send + Sync {
    /// Runs one command in a container whose root is `step.layers` under `step.upper`, and gives its exit code.
    ///
    /// # Errors
    /// When the command could not be run at all. Dropping the future kills the command.
    fn run(&self, step: RunStep<'_>) -> impl Future<Output = Result<i32, SandboxError>> + Send;

    /// Gives the image that `FROM` or `COPY --from` names, pulling it when absent or when `pull` says so.
    ///
    /// # Errors
    /// When it cannot be had.
    fn image(
        &self,
        reference: &Reference,
        pull: bool,
    ) -> impl Future<Output = Result<Image, SandboxError>> + Send;
}

/// Where the here-documents of a command are that are programs, as in BuildKit. Nothing of it is in the layer.
pub const PROGRAMS_DIR: &str = "/dev/pipes";

/// One command of a build.
pub struct RunStep<'a> {
    /// The directories below, topmost first. They may be empty, for `FROM scratch`.
    pub layers: &'a [PathBuf],
    /// Takes what the command writes. To be mounted without `redirect_dir` and `metacopy`.
    pub upper: &'a Path,
    /// overlayfs's work directory.
    pub work: &'a Path,
    /// The program and its arguments, the shell among them.
    pub args: &'a [String],
    /// `NAME=value`.
    pub env: &'a [String],
    /// The working directory; created if absent.
    pub cwd: &'a str,
    /// `user`, `uid`, `user:group`, `uid:gid`, to be resolved in the container; empty for root.
    pub user: &'a str,
    /// Programs that the command finds in [`PROGRAMS_DIR`]: name and content.
    pub programs: &'a [(String, String)],
    /// Takes what the command prints.
    pub output: &'a (dyn Fn(Stream, &[u8]) + Sync),
    /// To be called once the root is mounted: from then on `layers` may be renamed, which lets finished layers be
    /// kept even if the build is given up during this command. Not calling it only loses that.
    pub mounted: &'a (dyn Fn() + Sync),
}

/// Which of a command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A failure of the sandbox, as its implementor tells it.
#[derive(Debug)]
pub struct SandboxError {
    /// What it means to the caller.
    pub kind: ErrorKind,
    error: Box<dyn Error + Send + Sync>,
}

impl SandboxError {
    /// Wraps the implementor's own error.
    pub fn new(kind: ErrorKind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, error: error.into() }
    }

    /// What the error means to the caller.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for SandboxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
