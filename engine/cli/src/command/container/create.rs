use std::io::Write as _;
use std::process::ExitCode;

use serde_json::Value;

use crate::client::ClientError;
use crate::command::image::pull;
use crate::context::Context;
use crate::failure::Failure;
use crate::options::ContainerOptions;
use crate::output;

/// Create a new container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    options: ContainerOptions,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let body = args.options.body(&args.image, &args.command, false, &context.proxies());
    let body = body.map_err(|error| with_hint(&error, "create", 125))?;
    let id = create(context, &args.options, &args.image, &body, args.quiet).await?;
    output::line(id)?;
    Ok(ExitCode::SUCCESS)
}

/// An error of `run` or `create` as they tell it.
pub(super) fn with_hint(error: &anyhow::Error, command: &str, code: u8) -> anyhow::Error {
    let text = format!("engine: {error:#}\n\nRun 'engine {command} --help' for more information");
    Failure::new(code, text).into()
}

/// Makes a container, pulling its image as the options say; its id.
pub(super) async fn create(
    context: &Context,
    options: &ContainerOptions,
    image: &str,
    body: &Value,
    quiet: bool,
) -> anyhow::Result<String> {
    let cidfile = options.cidfile.as_deref().map(CidFile::new).transpose()?;
    let platform = options.platform.as_deref();
    match options.pull.as_str() {
        "always" => pull::to_stderr(context, image, platform, quiet).await?,
        "missing" | "never" => {}
        other => anyhow::bail!(
            "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
        ),
    }
    let post = || {
        let request = context.client.post("/containers/create").maybe("name", options.name.as_deref());
        request.maybe("platform", platform).json(body).value()
    };
    let created = match post().await {
        Err(error) if options.pull == "missing" && is_image_missing(&error) => {
            if !quiet {
                output::complain(format_args!("Unable to find image '{}' locally", pull::familiar(image)));
            }
            pull::to_stderr(context, image, platform, quiet).await?;
            post().await?
        }
        created => created?,
    };
    for warning in created["Warnings"].as_array().into_iter().flatten() {
        output::complain(format_args!("WARNING: {}", warning.as_str().unwrap_or_default()));
    }
    let id = created["Id"].as_str().unwrap_or_default().to_owned();
    if let Some(file) = cidfile {
        file.write(&id)?;
    }
    Ok(id)
}

fn is_image_missing(error: &ClientError) -> bool {
    error.is_not_found() && error.to_string().contains("No such image")
}

/// The file for a container's id: taken before the container is made, gone again if it is not.
struct CidFile {
    path: std::path::PathBuf,
    file: std::fs::File,
    written: bool,
}

impl CidFile {
    fn new(path: &std::path::Path) -> anyhow::Result<Self> {
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
            let name = path.display();
            match error.kind() {
                std::io::ErrorKind::AlreadyExists => anyhow::anyhow!(
                    "container ID file found, make sure the other container isn't running or delete {name}"
                ),
                _ => anyhow::anyhow!("failed to create the container ID file: open {name}: {error}"),
            }
        })?;
        Ok(Self { path: path.to_owned(), file, written: false })
    }

    fn write(mut self, id: &str) -> anyhow::Result<()> {
        self.file.write_all(id.as_bytes())?;
        self.written = true;
        Ok(())
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path); // nothing is in it
        }
    }
}
