use std::process::ExitCode;

use serde_json::Value;

use crate::context::Context;
use crate::format::align_wide;
use crate::output;

/// Display the running processes of a container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// What ps is given
    #[arg(value_name = "ps OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let request = context.client.get(format!("{}/top", super::path(&args.container)?));
    let options = Some(args.options.join(" ")).filter(|options| !options.is_empty());
    let found = request.maybe("ps_args", options).value().await?;
    let line = |words: &Value| {
        let words: Vec<&str> = words.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        words.join("\t") + "\n"
    };
    let processes = found["Processes"].as_array().into_iter().flatten();
    let lines: String = std::iter::once(&found["Titles"]).chain(processes).map(line).collect();
    output::text(&align_wide(&lines))?;
    Ok(ExitCode::SUCCESS)
}
