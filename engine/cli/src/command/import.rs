use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use engine::Engine;
use engine::image::{ContainerConfig, ImageConfig, Platform};
use engine_types::Reference;

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the image runs by default, as a list of words.
    #[arg(long, value_delimiter = ' ')]
    cmd: Vec<String>,
    /// The archive of the root file system; plain or compressed.
    archive: PathBuf,
    /// The image's name.
    name: Option<Reference>,
}

pub(crate) fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let archive = File::open(&args.archive).with_context(|| args.archive.display().to_string())?;
    let platform = Platform::host();
    let config = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        config: ContainerConfig {
            cmd: (!args.cmd.is_empty()).then(|| args.cmd.clone()),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            ..ContainerConfig::default()
        },
        ..ImageConfig::default()
    };
    let image = engine.images().import(archive, config, args.name.as_ref())?;
    engine.images().sync()?;
    output::line(image.id)?;
    Ok(ExitCode::SUCCESS)
}
