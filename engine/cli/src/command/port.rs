use std::process::ExitCode;

use engine::{Engine, ExposedPort, PublishedPort};

use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The container.
    container: String,
    /// Only where this port is published: 80 or 80/udp.
    private_port: Option<String>,
}

pub(crate) async fn run(engine: &Engine, args: &Args) -> anyhow::Result<ExitCode> {
    let container = engine.container(&args.container).await?;
    let Some(text) = &args.private_port else {
        let mut lines: Vec<String> =
            container.ports.iter().map(|port| format!("{} -> {}", exposed(port), host(port))).collect();
        lines.sort();
        lines.iter().try_for_each(output::line)?;
        return Ok(ExitCode::SUCCESS);
    };
    let wanted: ExposedPort = text.parse().map_err(engine::Error::from)?;
    let published: Vec<&PublishedPort> =
        container.ports.iter().filter(|port| exposed(port) == wanted).collect();
    anyhow::ensure!(!published.is_empty(), "no public port '{wanted}' published for {}", args.container);
    published.into_iter().map(host).try_for_each(output::line)?;
    Ok(ExitCode::SUCCESS)
}

fn exposed(port: &PublishedPort) -> ExposedPort {
    ExposedPort { port: port.container_port, protocol: port.protocol }
}

fn host(port: &PublishedPort) -> String {
    format!("{}:{}", port.host_ip, port.host_port)
}
