use std::process::ExitCode;

use serde_json::{Value, json};

use crate::context::Context;
use crate::format::object;
use crate::output;
use crate::units::binary_bytes;

/// Display system-wide information
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Format output using a custom template: 'json' or 'TEMPLATE'
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let answer = context.client.get("/info").value().await;
    let client = json!({ "Debug": false, "Version": env!("CARGO_PKG_VERSION"), "Context": "default", "Plugins": [], "Warnings": null });
    if let Some(format) = args.format.as_deref().filter(|format| !format.is_empty()) {
        let mut all = answer?;
        all["ClientInfo"] = client;
        output::line(object(format, &all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::text(&format!(
        "Client:\n Version:    {}\n Context:    default\n Debug Mode: false\n\nServer:\n",
        env!("CARGO_PKG_VERSION")
    ))?;
    let info = answer?;
    output::text(&(lines(&info) + "\n"))?;
    for warning in info["Warnings"].as_array().into_iter().flatten() {
        output::complain(warning.as_str().unwrap_or_default());
    }
    Ok(ExitCode::SUCCESS)
}

/// One value of an answer, as a line shows it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(" "),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn lines(info: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &Value| text.push_str(&format!(" {name}: {}\n", shown(value)));
    line("Containers", &info["Containers"]);
    line(" Running", &info["ContainersRunning"]);
    line(" Paused", &info["ContainersPaused"]);
    line(" Stopped", &info["ContainersStopped"]);
    line("Images", &info["Images"]);
    line("Server Version", &info["ServerVersion"]);
    line("Storage Driver", &info["Driver"]);
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        line(&format!(" {}", shown(&pair[0])), &pair[1]);
    }
    line("Logging Driver", &info["LoggingDriver"]);
    line("Cgroup Driver", &info["CgroupDriver"]);
    line("Cgroup Version", &info["CgroupVersion"]);
    text.push_str(" Plugins:\n");
    let mut line = |name: &str, value: &Value| text.push_str(&format!(" {name}: {}\n", shown(value)));
    for kind in ["Volume", "Network", "Log"] {
        line(&format!(" {kind}"), &info["Plugins"][kind]);
    }
    line("Swarm", &info["Swarm"]["LocalNodeState"]);
    let runtimes = info["Runtimes"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    line("Runtimes", &runtimes.collect::<Vec<_>>().into());
    line("Default Runtime", &info["DefaultRuntime"]);
    line("Init Binary", &info["InitBinary"]);
    text.push_str(&security(&info["SecurityOptions"]));
    let mut line = |name: &str, value: &Value| text.push_str(&format!(" {name}: {}\n", shown(value)));
    line("Kernel Version", &info["KernelVersion"]);
    line("Operating System", &info["OperatingSystem"]);
    line("OSType", &info["OSType"]);
    line("Architecture", &info["Architecture"]);
    line("CPUs", &info["NCPU"]);
    line("Total Memory", &binary_bytes(info["MemTotal"].as_f64().unwrap_or_default()).into());
    line("Name", &info["Name"]);
    line("ID", &info["ID"]);
    line("Docker Root Dir", &info["DockerRootDir"]);
    line("Debug Mode", &info["Debug"]);
    for (name, field) in [("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")]
    {
        if !shown(&info[field]).is_empty() {
            line(name, &info[field]);
        }
    }
    list(&mut text, "Labels", &info["Labels"]);
    text.push_str(&format!(" Experimental: {}\n", shown(&info["ExperimentalBuild"])));
    list(&mut text, "Insecure Registries", &info["RegistryConfig"]["InsecureRegistryCIDRs"]);
    list(&mut text, "Registry Mirrors", &info["RegistryConfig"]["Mirrors"]);
    text.push_str(&format!(" Live Restore Enabled: {}\n", shown(&info["LiveRestoreEnabled"])));
    text
}

/// `name=seccomp,profile=builtin` in lines.
fn security(options: &Value) -> String {
    let mut text = String::new();
    for option in options.as_array().into_iter().flatten() {
        for part in shown(option).split(',') {
            match part.split_once('=') {
                Some(("name", name)) => text.push_str(&format!("  {name}\n")),
                Some(("profile", profile)) => text.push_str(&format!("   Profile: {profile}\n")),
                _ => {}
            }
        }
    }
    if text.is_empty() { text } else { format!(" Security Options:\n{text}") }
}

fn list(text: &mut String, title: &str, items: &Value) {
    let items: Vec<String> = items.as_array().into_iter().flatten().map(shown).collect();
    if !items.is_empty() {
        text.push_str(&format!(" {title}:\n"));
        items.iter().for_each(|item| text.push_str(&format!("  {item}\n")));
    }
}
