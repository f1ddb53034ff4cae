use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::options::{labels, pairs};
use crate::output;

/// Create a network
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "map")]
    aux_address: Vec<String>,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "string", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "ipSlice", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Create swarm routing-mesh network
    #[arg(long)]
    ingress: bool,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// IP Address Management Driver
    #[arg(long, value_name = "string", default_value = "default")]
    ipam_driver: String,
    /// Set IPAM driver specific options
    #[arg(long, value_name = "map")]
    ipam_opt: Vec<String>,
    /// Enable or disable IPv4 address assignment
    #[arg(long, value_name = "bool", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    ipv4: Option<bool>,
    /// Enable or disable IPv6 address assignment
    #[arg(long, value_name = "bool", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    ipv6: Option<bool>,
    /// Set metadata on a network
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Control the network's scope
    #[arg(long, value_name = "string")]
    scope: Option<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings", value_delimiter = ',')]
    subnet: Vec<String>,
    /// The network
    #[arg(value_name = "NETWORK")]
    name: String,
}

pub(crate) async fn run(context: &Context, args: &Args) -> anyhow::Result<ExitCode> {
    let made = context.client.post("/networks/create").json(&body(args)?).value().await?;
    if let Some(warning) = made["Warning"].as_str().filter(|warning| !warning.is_empty()) {
        output::complain(format_args!("WARNING: {warning}"));
    }
    output::line(made["Id"].as_str().unwrap_or_default())?;
    Ok(ExitCode::SUCCESS)
}

fn body(args: &Args) -> anyhow::Result<Value> {
    let mut body = json!({
        "Name": args.name,
        "Driver": args.driver,
        "Scope": args.scope.clone().unwrap_or_default(),
        "Internal": args.internal,
        "Attachable": args.attachable,
        "Ingress": args.ingress,
        "IPAM": { "Driver": args.ipam_driver, "Options": pairs(&args.ipam_opt), "Config": ipam(args)? },
        "Options": pairs(&args.opt),
        "Labels": labels(&[], &args.label)?,
    });
    if let Some(on) = args.ipv4 {
        body["EnableIPv4"] = on.into();
    }
    if let Some(on) = args.ipv6 {
        body["EnableIPv6"] = on.into();
    }
    Ok(body)
}

/// A subnet: its address and how many bits of it are the network's.
#[derive(Debug, Clone, Copy)]
struct Subnet {
    address: IpAddr,
    bits: u32,
}

impl Subnet {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let parsed = text.split_once('/').and_then(|(address, bits)| {
            let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u32>().ok()?);
            let most = if address.is_ipv4() { 32 } else { 128 };
            (bits <= most).then_some(Self { address, bits })
        });
        match parsed {
            Some(subnet) => Ok(subnet),
            None => bail!("invalid CIDR address: {text}"),
        }
    }

    fn contains(&self, other: IpAddr) -> bool {
        let number = |address: IpAddr| match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, true),
            IpAddr::V6(v6) => (u128::from(v6), false),
        };
        let ((own, v4), (its, its_v4)) = (number(self.address), number(other));
        let mask = if self.bits == 0 { 0 } else { u128::MAX << (128 - self.bits) };
        v4 == its_v4 && own & mask == its & mask
    }
}

/// Brings the ranges, gateways and other addresses to the subnets that they are of.
fn ipam(args: &Args) -> anyhow::Result<Vec<Value>> {
    ensure!(
        args.subnet.len() >= args.ip_range.len() && args.subnet.len() >= args.gateway.len(),
        "every ip-range or gateway must have a corresponding subnet"
    );
    let mut subnets: Vec<(Subnet, Map<String, Value>)> = Vec::new();
    for text in &args.subnet {
        let subnet = Subnet::parse(text)?;
        let overlaps = |other: &Subnet| other.contains(subnet.address) || subnet.contains(other.address);
        ensure!(
            !subnets.iter().any(|(other, _)| overlaps(other)),
            "multiple overlapping subnet configuration is not supported"
        );
        subnets.push((subnet, [("Subnet".to_owned(), Value::from(text.as_str()))].into_iter().collect()));
    }
    let mut place = |address: IpAddr, name: &str, text: &str, what: &str| -> anyhow::Result<()> {
        let Some((_, config)) = subnets.iter_mut().find(|(subnet, _)| subnet.contains(address)) else {
            bail!("no matching subnet for {what} {text}");
        };
        ensure!(!config.contains_key(name), "cannot configure multiple {what}s ({text}) on the same subnet");
        config.insert(name.to_owned(), text.into());
        Ok(())
    };
    for text in &args.ip_range {
        place(Subnet::parse(text)?.address, "IPRange", text, "range")?;
    }
    for text in &args.gateway {
        let Ok(address) = text.parse() else { bail!("invalid gateway address: {text}") };
        place(address, "Gateway", text, "gateway")?;
    }
    for text in &args.aux_address {
        let address =
            text.split_once('=').and_then(|(name, address)| Some((name, address.parse::<IpAddr>().ok()?)));
        let Some((name, address)) = address else { bail!("invalid aux-address: {text}") };
        let Some((_, config)) = subnets.iter_mut().find(|(subnet, _)| subnet.contains(address)) else {
            bail!("no matching subnet for aux-address {address}");
        };
        let all = config.entry("AuxiliaryAddresses").or_insert_with(|| json!({}));
        all[name] = address.to_string().into();
    }
    Ok(subnets.into_iter().map(|(_, config)| config.into()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(subnets: &[&str], ranges: &[&str], gateways: &[&str]) -> Args {
        let own = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Args { subnet: own(subnets), ip_range: own(ranges), gateway: own(gateways), ..Args::default() }
    }

    #[test]
    fn addresses_come_to_their_subnets() {
        let args = Args {
            aux_address: vec!["router=10.1.0.5".to_owned()],
            ..args(&["10.1.0.0/16", "fd00::/64"], &["10.1.2.0/24"], &["fd00::1", "10.1.0.1"])
        };
        assert_eq!(
            json!(ipam(&args).unwrap()),
            json!([
                {"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24", "Gateway": "10.1.0.1",
                    "AuxiliaryAddresses": {"router": "10.1.0.5"}},
                {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
            ])
        );
    }

    #[test]
    fn addresses_without_a_subnet_are_refused() {
        let error = |subnets: &[&str], ranges: &[&str], gateways: &[&str]| {
            ipam(&args(subnets, ranges, gateways)).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[], &[], &["10.0.0.1"]),
            "every ip-range or gateway must have a corresponding subnet"
        );
        assert_eq!(error(&["10.0.0.0/8"], &[], &["11.0.0.1"]), "no matching subnet for gateway 11.0.0.1");
        assert_eq!(error(&["10.0.0.0"], &[], &[]), "invalid CIDR address: 10.0.0.0");
        assert!(error(&["10.0.0.0/8", "10.1.0.0/16"], &[], &[]).contains("overlapping"));
    }
}
