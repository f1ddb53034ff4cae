//! shim
#![allow(missing_docs, reason = "replaced by the merge")]
use std::net::IpAddr;
use std::path::Path;
#[derive(Debug, Clone, Default)]
pub struct ResolvConf {
    pub nameservers: Vec<IpAddr>,
}
impl ResolvConf {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Self {
            nameservers: text
                .lines()
                .filter_map(|l| l.strip_prefix("nameserver ")?.trim().parse().ok())
                .collect(),
        }
    }
    pub fn render_for_container(&self) -> String {
        self.nameservers.iter().map(|n| format!("nameserver {n}\n")).collect()
    }
}
