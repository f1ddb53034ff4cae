use std::process::ExitCode;

use serde_json::{Value, json};

use crate::context::Context;
use crate::format::object;
use crate::output;

/// Show the version information
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

/// The newest version of the API that this client knows.
const API: &str = "1.51";
/// The column of the values.
const COLUMN: usize = 20;

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let answer = context.client.get("/version").value().await;
    let server = match &answer {
        Ok(server) => server.clone(),
        Err(_) => Value::Null,
    };
    let used = server["ApiVersion"].as_str().unwrap_or(API);
    let client = json!({
        "Platform": { "Name": "Lighter" },
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": used,
        "DefaultAPIVersion": API,
        "GitCommit": "",
        "GoVersion": "",
        "Os": std::env::consts::OS,
        "Arch": architecture(),
        "BuildTime": "",
        "Context": "default",
    });
    match args.format.as_deref().filter(|format| !format.is_empty()) {
        Some(format) => {
            let mut all = json!({ "Client": client, "Server": server });
            // Templates call it by Docker's name in Go.
            for side in ["Client", "Server"] {
                if format != "json" && all[side].is_object() {
                    all[side]["APIVersion"] = all[side]["ApiVersion"].clone();
                    all[side]["MinAPIVersion"] = all[side]["MinAPIVersion"].clone();
                }
            }
            match (object(format, &all), answer) {
                (Ok(line), answer) => {
                    output::line(line)?;
                    answer?;
                }
                // That nobody answers is worse than that there is nothing to show.
                (Err(error), answer) => {
                    answer?;
                    return Err(error);
                }
            }
            return Ok(ExitCode::SUCCESS);
        }
        None => output::text(&text(&client, &server))?,
    }
    answer?;
    Ok(ExitCode::SUCCESS)
}

/// Go's name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn text(client: &Value, server: &Value) -> String {
    let line =
        |indent: &str, name: &str, value: &str| format!("{:COLUMN$}{value}\n", format!("{indent}{name}:"));
    let of = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut text = format!("Client: {}\n", of(&client["Platform"], "Name"));
    text.push_str(&line(" ", "Version", &of(client, "Version")));
    text.push_str(&line(" ", "API version", &of(client, "ApiVersion")));
    text.push_str(&line(" ", "OS/Arch", &format!("{}/{}", of(client, "Os"), of(client, "Arch"))));
    text.push_str(&line(" ", "Context", &of(client, "Context")));
    if server.is_null() {
        return text;
    }
    text.push_str(&format!("\nServer: {}\n", of(&server["Platform"], "Name")));
    for component in server["Components"].as_array().into_iter().flatten() {
        text.push_str(&format!(" {}:\n", of(component, "Name")));
        text.push_str(&line("  ", "Version", &of(component, "Version")));
        let details = &component["Details"];
        if component["Name"] != "Engine" {
            continue;
        }
        let api = format!("{} (minimum version {})", of(details, "ApiVersion"), of(details, "MinAPIVersion"));
        text.push_str(&line("  ", "API version", &api));
        text.push_str(&line("  ", "OS/Arch", &format!("{}/{}", of(details, "Os"), of(details, "Arch"))));
        text.push_str(&line("  ", "Kernel version", &of(details, "KernelVersion")));
        text.push_str(&line("  ", "Experimental", &of(details, "Experimental")));
    }
    text
}
