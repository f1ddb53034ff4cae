use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use engine::build::{BuildError, BuildEvent, BuildRequest};
use engine::image::{PullEvent, PullOptions};
use engine::{BuildCommands, BuildNetwork, BuildSandbox, Engine, EventKind, Session};
use engine_types::{ImageId, Reference};
use tokio::sync::OnceCell;

use super::Daemon;
use super::context::Context;
use crate::error::ApiError;
use crate::parse::{Build, BuildNetworkMode};
use crate::transfer::Upload;

/// What happens during a build, for whoever watches.
#[derive(Debug)]
pub(crate) enum BuildProgress {
    /// An image that it needs is pulled.
    Pull(Reference, PullEvent),
    /// The build itself.
    Build(BuildEvent),
    /// The image is stored under its names.
    Done(ImageId),
}

/// Ends its session however the build ends: by itself, or because the client has gone.
struct Scratch {
    engine: Engine,
    session: Option<Session>,
}

impl Scratch {
    async fn end(mut self) -> Result<(), ApiError> {
        match self.session.take() {
            Some(session) => Ok(self.engine.end_session(session).await?),
            None => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        let engine = self.engine.clone();
        tokio::spawn(async move {
            if let Err(error) = engine.end_session(session).await {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(error, "what a cancelled build left stays until the daemon is started again");
            }
        });
    }
}

impl Daemon {
    /// Builds an image of a context, names it and tells its progress.
    pub(crate) async fn build(
        &self,
        build: Build,
        body: Upload,
        progress: &(dyn Fn(BuildProgress) + Sync),
    ) -> Result<(), ApiError> {
        let engine = self.engine().clone();
        let session = engine.begin_session().await?;
        let id = session.id();
        let directory = engine.session_scratch(&session)?;
        let scratch = Scratch { engine, session: Some(session) };
        let built = async {
            let context = Context::fetch(&build.remote, body, directory).await?;
            self.build_in(&build, context, id, progress).await
        };
        let built = built.await;
        let ended = scratch.end().await;
        let image = built?;
        ended?;
        progress(BuildProgress::Done(image));
        Ok(())
    }

    async fn build_in(
        &self,
        build: &Build,
        context: Context,
        session: engine_types::SessionId,
        progress: &(dyn Fn(BuildProgress) + Sync),
    ) -> Result<ImageId, ApiError> {
        let engine = self.engine();
        let request = BuildRequest {
            dockerfile: Some(dockerfile(&context, build.dockerfile.as_deref())?),
            context: context.directory,
            target: build.target.clone(),
            args: build.args.clone(),
            labels: build.labels.clone(),
            no_cache: build.no_cache,
            pull: build.pull,
            cache_dir: engine.build_cache(),
            foreign: true,
        };
        let (network, kind) = match &build.network {
            BuildNetworkMode::Named(None) => (Some(engine.default_network().await?), BuildNetwork::Bridge),
            BuildNetworkMode::Named(Some(name)) => (Some(engine.network(name).await?), BuildNetwork::Bridge),
            BuildNetworkMode::Other(kind) => (None, *kind),
        };
        let network = OnceCell::new_with(network);
        let mut pull = PullOptions { registries: engine.settings().registries.clone(), platform: None };
        pull.registries.credentials.extend(build.credentials.clone());
        let on_pull = |name: &str, event| {
            if let Ok(reference) = name.parse() {
                progress(BuildProgress::Pull(reference, event));
            }
        };
        let commands = BuildCommands {
            network: kind,
            resources: build.resources.clone(),
            extra_hosts: build.extra_hosts.clone(),
            shm_size: build.shm_size,
        };
        let sandbox = BuildSandbox { engine, session, network: &network, commands, pull, on_pull: &on_pull };
        let built = engine.build(&request, &sandbox, &|event| progress(BuildProgress::Build(event))).await;
        let built = built.map_err(|error| match error {
            BuildError::ReadDockerfile { source, .. } if source.kind() == ErrorKind::NotFound => {
                ApiError::NoDockerfile(build.dockerfile.clone().unwrap_or_else(|| "Dockerfile".to_owned()))
            }
            other => ApiError::Build(other),
        })?;
        let id = built.image.id;
        for tag in &build.tags {
            engine.images().tag(id, tag)?;
        }
        if built.cached < built.steps {
            self.sync_later();
        }
        for tag in &build.tags {
            let name = tag.to_string();
            self.record(EventKind::Image, "tag", &id.to_string(), &[("name", &name)]).await?;
        }
        Ok(id)
    }
}

fn dockerfile(context: &Context, given: Option<&str>) -> Result<PathBuf, ApiError> {
    let named = Path::new(given.or(context.dockerfile.as_deref()).unwrap_or("Dockerfile"));
    // Within the context, as if it were `/`; where links lead is seen to when it is read.
    let mut path = PathBuf::new();
    for component in named.components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => drop(path.pop()),
            _ => {}
        }
    }
    if path.as_os_str().is_empty() {
        return Err(ApiError::Invalid(format!("dockerfile is no file's name: {}", named.display())));
    }
    Ok(context.directory.join(path))
}
