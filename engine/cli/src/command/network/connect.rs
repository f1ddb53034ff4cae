use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use serde_json::json;

use crate::context::Context;
use crate::options::{Members, pairs};

/// Connect a container to a network
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings")]
    alias: Vec<String>,
    /// Driver options for the network
    #[arg(long, value_name = "strings")]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway
    #[arg(long, value_name = "int")]
    gw_priority: Option<i64>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "ip")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "ip")]
    ip6: Option<Ipv6Addr>,
    /// Add link to another container
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "strings")]
    link_local_ip: Vec<String>,
    /// The network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.driver_opt.iter().all(|text| text.contains('=')),
        "invalid key/value pair format in driver options"
    );
    let (mut ipam, mut endpoint) = (Members::default(), Members::default());
    ipam.put("IPv4Address", args.ip.map(|ip| ip.to_string()))
        .put("IPv6Address", args.ip6.map(|ip| ip.to_string()))
        .put("LinkLocalIPs", json!(args.link_local_ip));
    endpoint
        .put("IPAMConfig", ipam.into_value())
        .put("Links", json!(args.link))
        .put("Aliases", json!(args.alias))
        .put("DriverOpts", pairs(&args.driver_opt))
        .put("GwPriority", args.gw_priority);
    let body = json!({ "Container": args.container, "EndpointConfig": endpoint.into_value() });
    context.client.post(format!("{}/connect", super::path(&args.network)?)).json(&body).done().await?;
    Ok(ExitCode::SUCCESS)
}
