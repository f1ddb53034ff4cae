//! Why a container or a process in it could not be started.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use engine_types::{ErrorKind, FULL_DISK_REMEDY};
use serde::{Deserialize, Serialize};

use crate::state::StateError;

/// A failed step on the way from a spec to a running process. Crosses from the container to its supervisor and on to
/// the launcher, so it holds plain data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SetupError {
    /// A system call failed.
    #[error("{step}{}: {}", At(path.as_deref()), Cause(*errno))]
    Step {
        /// What was being done.
        step: Step,
        /// To which file.
        path: Option<PathBuf>,
        /// The error number.
        errno: i32,
    },
    /// The program is in no directory of `PATH`, or its path does not exist.
    #[error("exec: {program:?}: {}", if program.contains('/') { "no such file or directory" } else { "executable file not found in $PATH" })]
    CommandNotFound {
        /// As asked for.
        program: String,
    },
    /// It exists and cannot be executed.
    #[error("exec: {program:?}: {}", io::Error::from_raw_os_error(*errno))]
    CommandNotExecutable {
        /// As asked for.
        program: String,
        /// The error number.
        errno: i32,
    },
    /// The image's passwd has no such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    /// The image's group file has no such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoSuchGroup(String),
    /// Nobody takes the container's output where it is to go.
    #[error("failed to initialize logging driver: {to}: {}", Cause(*errno))]
    LogDestination {
        /// Who should.
        to: String,
        /// The error number.
        errno: i32,
    },
    /// A value of the spec cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The container's side ended without a word.
    #[error("the container ended while it was being set up")]
    Vanished,
}

impl SetupError {
    /// What it means to the caller.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CommandNotFound { .. } | Self::CommandNotExecutable { .. } | Self::Invalid(_) => {
                ErrorKind::InvalidArgument
            }
            Self::NoSuchUser(_) | Self::NoSuchGroup(_) => ErrorKind::InvalidArgument,
            Self::Step { step: Step::BindSource, .. } => ErrorKind::InvalidArgument,
            Self::Step { .. } | Self::LogDestination { .. } | Self::Vanished => ErrorKind::Internal,
        }
    }

    /// The exit code that stands for it, as Docker's: 127 not found, 126 not executable, 125 the rest.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::CommandNotFound { .. } => 127,
            Self::CommandNotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

struct At<'a>(Option<&'a Path>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |path| write!(f, " {}", path.display()))
    }
}

/// A number has no cause that could be asked later what to do about it.
struct Cause(i32);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = io::Error::from_raw_os_error(self.0);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                write!(f, "{error}: {FULL_DISK_REMEDY}")
            }
            _ => write!(f, "{error}"),
        }
    }
}

impl From<StateError> for SetupError {
    fn from(error: StateError) -> Self {
        match error {
            StateError::Io { path, source } => Self::Step {
                step: Step::State,
                path: Some(path),
                errno: source.raw_os_error().unwrap_or_default(),
            },
            error @ StateError::Format { .. } => Self::Invalid(error.to_string()),
        }
    }
}

/// A step of the set-up, each with its own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant's text is its documentation")]
pub enum Step {
    Cgroup,
    CgroupLimit,
    Clone,
    Fork,
    CgroupNamespace,
    PrivateMounts,
    OpenLayer,
    MountRootfs,
    OpenRootfs,
    MakeMountPoint,
    MountProc,
    MountSys,
    MountCgroup,
    MountDev,
    MakeDevice,
    MountMqueue,
    BindSource,
    BindMount,
    MountTmpfs,
    MountOverlay,
    MaskPath,
    ReadOnlyPath,
    ReadOnlyRoot,
    NoDevices,
    PivotRoot,
    Hostname,
    Sysctl,
    Terminal,
    Stdio,
    Passwd,
    WorkingDirectory,
    Rlimit,
    OomScore,
    Capabilities,
    Groups,
    UserId,
    NoNewPrivileges,
    Seccomp,
    Signals,
    JoinNamespaces,
    Socket,
    Log,
    Dns,
    Control,
    State,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup => "create the cgroup",
            Self::CgroupLimit => "set the cgroup limit",
            Self::Clone => "clone the container's first process",
            Self::Fork => "fork a process",
            Self::CgroupNamespace => "unshare the cgroup namespace",
            Self::PrivateMounts => "make the mount namespace private",
            Self::OpenLayer => "open the image layer",
            Self::MountRootfs => "mount the root overlay at",
            Self::OpenRootfs => "open the root file system",
            Self::MakeMountPoint => "make the mount point",
            Self::MountProc => "mount /proc",
            Self::MountSys => "mount /sys",
            Self::MountCgroup => "mount /sys/fs/cgroup",
            Self::MountDev => "mount",
            Self::MakeDevice => "make the device node",
            Self::MountMqueue => "mount /dev/mqueue",
            Self::BindSource => "open the bind source",
            Self::BindMount => "bind mount at",
            Self::MountTmpfs => "mount a tmpfs at",
            Self::MountOverlay => "mount an overlay at",
            Self::MaskPath => "mask",
            Self::ReadOnlyPath => "make read-only",
            Self::ReadOnlyRoot => "make the root read-only",
            Self::NoDevices => "close the device nodes of the root file system",
            Self::PivotRoot => "pivot_root into",
            Self::Hostname => "set the host name",
            Self::Sysctl => "set the sysctl",
            Self::Terminal => "open the terminal",
            Self::Stdio => "connect the standard streams",
            Self::Passwd => "read",
            Self::WorkingDirectory => "change to the working directory",
            Self::Rlimit => "set the rlimit",
            Self::OomScore => "set oom_score_adj",
            Self::Capabilities => "set the capabilities",
            Self::Groups => "set the supplementary groups",
            Self::UserId => "change the user and group id",
            Self::NoNewPrivileges => "set no_new_privs",
            Self::Seccomp => "install the seccomp filter",
            Self::Signals => "reset the signals",
            Self::JoinNamespaces => "join the container's namespaces",
            Self::Socket => "listen on the control socket",
            Self::Log => "open the log",
            Self::Dns => "listen for DNS queries",
            Self::Control => "talk to the supervisor",
            Self::State => "write the state",
        })
    }
}

/// Names the step, and the path where there is one, that an I/O error belongs to.
pub(crate) trait Context<T> {
    fn step(self, step: Step) -> Result<T, SetupError>;
    fn step_at(self, step: Step, path: impl AsRef<Path>) -> Result<T, SetupError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn step(self, step: Step) -> Result<T, SetupError> {
        self.map_err(|e| SetupError::Step { step, path: None, errno: errno(&e.into()) })
    }

    fn step_at(self, step: Step, path: impl AsRef<Path>) -> Result<T, SetupError> {
        self.map_err(|e| {
            let path = Some(path.as_ref().to_owned());
            SetupError::Step { step, path, errno: errno(&e.into()) }
        })
    }
}

pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_step_path_and_cause() {
        let failed: Result<(), SetupError> =
            Err(io::Error::from_raw_os_error(2)).step_at(Step::BindSource, "/data/missing");
        let error = failed.unwrap_err();
        assert_eq!(
            error.to_string(),
            "open the bind source /data/missing: No such file or directory (os error 2)"
        );
        assert_eq!(error.exit_code(), 125);
    }

    #[test]
    fn command_errors_read_as_dockers() {
        let missing = SetupError::CommandNotFound { program: "nope".into() };
        assert_eq!(missing.to_string(), "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(missing.exit_code(), 127);
        let denied = SetupError::CommandNotExecutable { program: "/etc".into(), errno: 13 };
        assert_eq!(
            (denied.exit_code(), denied.to_string()),
            (126, "exec: \"/etc\": Permission denied (os error 13)".into())
        );
    }
}
