use std::process::ExitCode;

use serde_json::Value;

use crate::context::Context;
use crate::output;

/// List port mappings or a specific mapping for the container
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Only where this port is published: 80 or 80/udp
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let found = context.client.get(format!("{}/json", super::path(&args.container)?)).value().await?;
    let ports = found["NetworkSettings"]["Ports"].as_object().cloned().unwrap_or_default();
    if let Some(text) = &args.port {
        let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        anyhow::ensure!(
            port.parse::<u16>().is_ok(),
            "Error: invalid port ({text}): strconv.ParseUint: parsing {port:?}: invalid syntax"
        );
        let wanted = format!("{port}/{protocol}");
        let bindings = ports.get(&wanted).and_then(Value::as_array).filter(|all| !all.is_empty());
        let Some(bindings) = bindings else {
            anyhow::bail!("Error: No public port '{text}' published for {}", args.container);
        };
        bindings.iter().map(host).try_for_each(output::line)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines: Vec<((u16, String), String)> = Vec::new();
    for (port, bindings) in &ports {
        let number = port.split('/').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        for binding in bindings.as_array().into_iter().flatten() {
            lines.push(((number, port.clone()), format!("{port} -> {}", host(binding))));
        }
    }
    lines.sort();
    lines.into_iter().try_for_each(|(_, line)| output::line(line))?;
    Ok(ExitCode::SUCCESS)
}

fn host(binding: &Value) -> String {
    let text = |name: &str| binding[name].as_str().unwrap_or_default();
    let ip = text("HostIp");
    if ip.contains(':') {
        format!("[{ip}]:{}", text("HostPort"))
    } else {
        format!("{ip}:{}", text("HostPort"))
    }
}
