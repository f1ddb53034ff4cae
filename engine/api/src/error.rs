//! What went wrong, as Docker says it: status and text.

use std::path::PathBuf;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::build::{BuildError, Problem};
use engine::image::archive::UnpackError;
use engine::image::{LoadError, StoreError};
use engine::runtime::{ClientError, LaunchError, SetupError};
use engine_types::ErrorKind;
use serde_json::json;

/// Why a request was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// What it names is not there.
    #[error("{0}")]
    NotFound(String),
    /// Its object is not in the state for it.
    #[error("{0}")]
    Conflict(String),
    /// Nobody may do this.
    #[error("{0}")]
    Forbidden(String),
    /// What the host was asked for failed.
    #[error("{0}")]
    Internal(String),
    /// What cannot be had, of any engine.
    #[error("{0}")]
    NotImplemented(String),
    /// An option that this engine lacks.
    #[error("{0} is not supported by this engine yet")]
    Unsupported(String),
    /// This engine is not part of a swarm.
    #[error(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to \
         swarm and try again."
    )]
    NoSwarm,
    /// It is so already.
    #[error("not modified")]
    NotModified,
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// An archive could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An archive could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A build's context could not be unpacked.
    #[error("unpack the build's context into {}", path.display())]
    Context {
        /// The directory for it.
        path: PathBuf,
        /// Why.
        source: UnpackError,
    },
    /// A build's context lacks its Dockerfile.
    #[error("Cannot locate specified Dockerfile: {0}")]
    NoDockerfile(String),
    /// A build failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The request's body or a stream of this process broke.
    #[error("{0}")]
    Broken(#[from] std::io::Error),
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Engine(error.into())
    }
}

impl ApiError {
    /// What it means to the caller.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::InvalidArgument,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Conflict(_) | Self::NotModified => ErrorKind::Conflict,
            Self::Forbidden(_) => ErrorKind::Forbidden,
            Self::Unsupported(_) | Self::NotImplemented(_) => ErrorKind::Unsupported,
            Self::NoSwarm => ErrorKind::Unavailable,
            Self::Engine(e) => e.kind(),
            Self::Load(e) => e.kind(),
            Self::Unpack(e) | Self::Context { source: e, .. } => e.kind(),
            Self::Build(e) => e.kind(),
            Self::NoDockerfile(_) | Self::Broken(_) | Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Docker's words for it.
    pub(crate) fn message(&self) -> String {
        use engine::Error as E;
        let error = match self {
            Self::Engine(error) => error,
            Self::Build(error) => return build_message(error),
            other => return with_causes(other),
        };
        match error {
            E::NoSuchContainer(key) => format!("No such container: {key}"),
            E::NoSuchNetwork(key) => format!("network {key} not found"),
            E::NoSuchVolume(name) => format!("get {name}: no such volume"),
            E::NameInUse { what: "container", name, holder } => format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            ),
            E::NameInUse { what: "network", name, .. } => format!("network with name {name} already exists"),
            E::InvalidName { what: "container", name } => {
                format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
            }
            E::Running(name) => format!(
                "cannot remove container \"{name}\": container is running: stop the container before removing or \
                 force remove"
            ),
            E::NotRunning(id) => format!("container {id} is not running"),
            E::Paused(id) => format!("Container {id} is already paused"),
            E::NotPaused(id) => format!("Container {id} is not paused"),
            E::UpdateOfRemoved => {
                "Restart policy cannot be updated because AutoRemove is enabled for the container".to_owned()
            }
            E::MemoryOverSwap => {
                "Memory limit should be smaller than already set memoryswap limit, update the \
                                  memoryswap at the same time"
                    .to_owned()
            }
            E::VolumeInUse { volume, containers } => {
                format!("remove {volume}: volume is in use - [{}]", containers.join(", "))
            }
            E::NetworkInUse { network, container } => format!(
                "error while removing network: network {network} has active endpoints (name:\"{container}\")"
            ),
            E::ImageInUse { image, container, forced } => {
                let how = if *forced { "must be forced" } else { "cannot be forced" };
                let kind = if *forced { "stopped" } else { "running" };
                let id = image.0.short();
                format!(
                    "conflict: unable to delete {id} ({how}) - image is being used by {kind} container {container}"
                )
            }
            E::SeveralNames(image) => format!(
                "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
                image.0.short()
            ),
            E::Launch(LaunchError::Setup(SetupError::CommandNotExecutable { program, errno }))
            | E::Client(ClientError::Setup(SetupError::CommandNotExecutable { program, errno })) => {
                format!("exec: {program:?}: {}", in_gos_words(*errno))
            }
            other => with_causes(other),
        }
    }

    /// The exit code of the command by which a build failed.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        let Self::Build(BuildError::At(diagnostic)) = self else { return None };
        match *diagnostic.problem {
            Problem::ExitCode { code, .. } => Some(code),
            _ => None,
        }
    }

    fn status(&self) -> StatusCode {
        match self.kind() {
            _ if matches!(self, Self::NotModified) => StatusCode::NOT_MODIFIED,
            // As Docker, to which a port in use is a failure of its own.
            _ if matches!(
                self,
                Self::Engine(engine::Error::PortAllocated { .. } | engine::Error::Reserve(_))
            ) =>
            {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            // 499 is not in HTTP; the client that would see it has gone.
            ErrorKind::Corrupt | ErrorKind::Cancelled | ErrorKind::Internal => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status == StatusCode::NOT_MODIFIED {
            return status.into_response();
        }
        if status.is_server_error() {
            tracing::debug!(error = %with_causes(&self), %status, "request failed");
        }
        super::render::json(status, &json!({ "message": self.message() }))
    }
}

/// The classic builder's words for it.
fn build_message(error: &BuildError) -> String {
    let diagnostic = match error {
        BuildError::At(diagnostic) => diagnostic,
        BuildError::UnknownTarget { target, .. } => {
            return format!("failed to reach build target {target} in Dockerfile");
        }
        other => return with_causes(other),
    };
    let line = diagnostic.location.line;
    match &*diagnostic.problem {
        Problem::ExitCode { command, code, full: None } => {
            format!("The command '{command}' returned a non-zero code: {code}")
        }
        Problem::NotFound { instruction, source_path, .. } => format!(
            "{instruction} failed: file not found in build context or excluded by .dockerignore: stat {source_path}: \
             file does not exist"
        ),
        Problem::Image { source, .. } => with_causes(source),
        Problem::UnknownInstruction { word, .. } => {
            format!("dockerfile parse error on line {line}: unknown instruction: {word}")
        }
        problem if problem.kind() == ErrorKind::InvalidArgument => {
            format!("dockerfile parse error on line {line}: {}", with_causes(problem))
        }
        problem => with_causes(problem),
    }
}

/// What the kernel says, in small letters: the docker command tells by these words that a program cannot be executed.
fn in_gos_words(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// An error with its causes, and what to do about it where that is known, in a line.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let remedy = engine::remedy(error).map(|remedy| format!(": {remedy}")).unwrap_or_default();
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")) + &remedy
}
