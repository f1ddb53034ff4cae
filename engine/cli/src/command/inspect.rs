use std::process::ExitCode;

use serde_json::Value;

use crate::client::ClientError;
use crate::context::Context;
use crate::format::{self, Inspected};

/// Return low-level information on objects
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    /// The objects
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

/// The kinds of objects that there are here, in the order in which they are looked for.
const KINDS: [&str; 4] = ["container", "image", "network", "volume"];
/// Those of a swarm.
const SWARM: [&str; 6] = ["node", "service", "task", "plugin", "secret", "config"];

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let kind = args.kind.as_deref().filter(|kind| !kind.is_empty());
    if let Some(kind) = kind
        && !KINDS.contains(&kind)
    {
        anyhow::ensure!(
            SWARM.contains(&kind),
            "unknown type: {kind:?}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \
             \"service\", \"task\", \"volume\""
        );
        anyhow::bail!("objects of type {kind} are of a swarm, and this engine is of none");
    }
    let mut inspected = Inspected::default();
    for name in &args.names {
        match find(context, name, kind, args.size).await? {
            Ok(found) => inspected.add(found),
            Err(error) => inspected.add_error(error),
        }
    }
    format::inspect(inspected, args.format.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// What has this name, of the kind that is wanted or else of the first that has one.
async fn find(
    context: &Context,
    name: &str,
    kind: Option<&str>,
    size: bool,
) -> Result<Result<Value, String>, ClientError> {
    for candidate in KINDS.into_iter().filter(|candidate| kind.is_none_or(|kind| kind == *candidate)) {
        let path = match candidate {
            "container" => format!("{}/json", super::container::path(name)?),
            "image" => format!("{}/json", super::image::path(name)?),
            "network" => super::network::path(name)?,
            _ => super::volume::path(name)?,
        };
        let request = context.client.get(path).flag("size", size && candidate == "container");
        match request.value().await {
            Ok(found) => return Ok(Ok(found)),
            Err(error) if error.is_not_found() => {
                if kind.is_some() {
                    return Ok(Err(error.to_string()));
                }
            }
            // A name that is none for this kind may be one for the next.
            Err(ClientError::Answer { .. }) if kind.is_none() => {}
            Err(error @ ClientError::Answer { .. }) => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        }
    }
    Ok(Err(format!("Error: No such object: {name}")))
}
