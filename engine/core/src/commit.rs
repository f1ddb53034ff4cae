//! A container into an image.

use engine_build::change_config;
use engine_image::{ContainerConfig as ImageDefaults, History, Image, ImageConfig};
use engine_types::{ImageId, Reference};

use crate::changes::unchanged;
use crate::container::{Container, ContainerConfig, Program};
use crate::engine::{Engine, blocking};
use crate::error::Error;
use crate::spec::merge_env;

/// How an image is made of a container.
#[derive(Debug, Default)]
pub struct Commit {
    /// Its name.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// What for.
    pub comment: String,
    /// Instructions of a Dockerfile that change how its containers run.
    pub changes: Vec<String>,
    /// Settings that come before the container's.
    pub config: ImageDefaults,
}

impl Engine {
    /// Makes an image of a container's files and settings. What is mounted is no part of it.
    pub async fn commit_container(&self, key: &str, commit: Commit) -> Result<ImageId, Error> {
        let container = self.container(key).await?;
        let image = self.images().get(container.config.image)?;
        let mut config = image.config.clone();
        config.config = merged(commit.config, settings(&container.config, &image));
        change_config(&mut config, &commit.changes).map_err(|e| Error::Change(Box::new(e)))?;
        let created = jiff::Timestamp::now().to_string();
        let history = History {
            created: Some(created.clone()),
            created_by: Some(command_line(&container, &image)),
            author: commit.author.clone(),
            comment: Some(commit.comment.clone()).filter(|comment| !comment.is_empty()),
            empty_layer: false,
        };
        config.history.push(history);
        (config.created, config.author) = (Some(created), commit.author);
        config.comment = Some(commit.comment).filter(|comment| !comment.is_empty());
        let (images, upper) = (self.images().clone(), self.upper_dir(container.id));
        blocking(move || {
            let _hold = images.hold()?;
            let parent = image.layers.last().map(|layer| layer.chain_id);
            let layer = images.copy_layer(&upper, unchanged(&upper), parent)?;
            config.rootfs.diff_ids.push(layer.diff_id);
            let image = images.put_image(&config)?;
            if let Some(reference) = &commit.reference {
                images.tag(image.id, reference)?;
            }
            Ok(image.id)
        })
        .await
    }
}

/// Changes an image's configuration as `import --change` does.
pub fn change(config: &mut ImageConfig, changes: &[String]) -> Result<(), Error> {
    change_config(config, changes).map_err(|e| Error::Change(Box::new(e)))
}

/// How containers of the image would run as this one does.
fn settings(config: &ContainerConfig, image: &Image) -> ImageDefaults {
    let mut settings = image.config.config.clone();
    settings.env = merge_env(settings.env.into_iter().chain(config.env.iter().cloned()));
    settings.labels.extend(config.labels.clone());
    if let Some(user) = &config.user {
        settings.user.clone_from(user);
    }
    if let Some(dir) = &config.working_dir {
        settings.working_dir.clone_from(dir);
    }
    if let Program::Command { entrypoint, command } = &config.program {
        if let Some(entrypoint) = entrypoint {
            settings.entrypoint = Some(entrypoint.clone());
            settings.cmd = None;
        }
        if let Some(command) = command {
            settings.cmd = Some(command.clone());
        }
    }
    settings.exposed_ports.extend(config.exposed.iter().map(|port| (port.to_string(), Default::default())));
    settings.stop_signal = config.stop_signal.clone().or(settings.stop_signal);
    settings
}

/// What is given before what the container has.
fn merged(given: ImageDefaults, mut settings: ImageDefaults) -> ImageDefaults {
    let text = |given: String, other: String| if given.is_empty() { other } else { given };
    settings.user = text(given.user, settings.user);
    settings.working_dir = text(given.working_dir, settings.working_dir);
    settings.env = merge_env(settings.env.into_iter().chain(given.env));
    settings.exposed_ports.extend(given.exposed_ports);
    settings.volumes.extend(given.volumes);
    settings.labels.extend(given.labels);
    settings.on_build.extend(given.on_build);
    settings.healthcheck = given.healthcheck.or(settings.healthcheck);
    settings.stop_signal = given.stop_signal.or(settings.stop_signal);
    settings.shell = given.shell.or(settings.shell);
    settings.cmd = given.cmd.or(settings.cmd);
    settings.entrypoint = given.entrypoint.or(settings.entrypoint);
    settings
}

fn command_line(container: &Container, image: &Image) -> String {
    settings(&container.config, image).cmd.unwrap_or_default().join(" ")
}
