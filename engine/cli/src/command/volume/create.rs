use std::process::ExitCode;

use serde_json::json;

use crate::context::Context;
use crate::options::{labels, pairs};
use crate::output;

/// Create a volume
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Specify volume driver name
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Specify volume name
    #[arg(long = "name", value_name = "string", hide = true)]
    name_option: Option<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// The volume
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.name.is_none() || args.name_option.is_none(),
        "conflicting options: either specify --name or provide positional arg, not both"
    );
    let name = args.name.as_deref().or(args.name_option.as_deref()).unwrap_or_default();
    let body = json!({
        "Name": name, "Driver": args.driver, "DriverOpts": pairs(&args.opt), "Labels": labels(&[], &args.label)?,
    });
    let made = context.client.post("/volumes/create").json(&body).value().await?;
    output::line(made["Name"].as_str().unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}
