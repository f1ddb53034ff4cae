//! Links as the default network has them: variables and lines of /etc/hosts that tell one container of another (moby,
//! `daemon/links`).

use std::net::Ipv4Addr;

use super::{Container, Link};
use crate::engine::Engine;
use crate::error::Error;
use crate::ports::ExposedPort;

/// Variables of the other container that it is not told of.
const UNTOLD: [&str; 2] = ["HOME", "PATH"];

/// A container that another is told of, found.
#[derive(Debug, Clone)]
pub(crate) struct Linked {
    alias: String,
    name: String,
    hostname: String,
    address: Ipv4Addr,
    ports: Vec<ExposedPort>,
    env: Vec<String>,
}

impl Engine {
    /// Finds the containers that one called `name` is told of. They have to run.
    pub(crate) async fn linked(&self, name: &str, links: &[Link]) -> Result<Vec<Linked>, Error> {
        let mut all = Vec::new();
        for link in links {
            let container = self.container(&link.container.to_string()).await?;
            let network = self.default_network().await?.id;
            let addresses = self.catalog().addresses_of(container.id).await?;
            let address = addresses.into_iter().find(|(id, _)| *id == network).map(|(_, address)| address);
            let Some(address) = address.filter(|_| container.running) else {
                let alias = format!("/{name}/{}", link.alias);
                return Err(Error::LinkNotRunning { container: container.name, alias });
            };
            all.push(self.found(container, link, address)?);
        }
        Ok(all)
    }

    fn found(&self, container: Container, link: &Link, address: Ipv4Addr) -> Result<Linked, Error> {
        let env = self.process_defaults(&container)?.env;
        let hostname = container.config.hostname.clone().unwrap_or_else(|| container.id.short());
        let ports = container.config.exposed.iter().copied().collect();
        Ok(Linked { alias: link.alias.clone(), name: container.name, hostname, address, ports, env })
    }
}

impl Linked {
    /// Its line of /etc/hosts.
    pub(crate) fn hosts_line(&self) -> String {
        let Self { alias, name, hostname, address, .. } = self;
        let more = if alias == name { String::new() } else { format!(" {name}") };
        format!("{address}\t{alias} {hostname}{more}\n")
    }

    /// What a container called `name` is told of it by its environment.
    pub(crate) fn variables(&self, name: &str) -> Vec<String> {
        let prefix = self.alias.to_uppercase().replace('-', "_");
        let address = self.address;
        let mut out = Vec::new();
        if let Some(ExposedPort { port, protocol }) = self.ports.first() {
            out.push(format!("{prefix}_PORT={protocol}://{address}:{port}"));
        }
        for ExposedPort { port, protocol } in &self.ports {
            let one = format!("{prefix}_PORT_{port}_{}", protocol.to_string().to_uppercase());
            out.push(format!("{one}={protocol}://{address}:{port}"));
            out.push(format!("{one}_ADDR={address}"));
            out.push(format!("{one}_PORT={port}"));
            out.push(format!("{one}_PROTO={protocol}"));
        }
        out.push(format!("{prefix}_NAME=/{name}/{}", self.alias));
        let told = self.env.iter().filter_map(|entry| entry.split_once('='));
        let told = told.filter(|(variable, _)| !UNTOLD.contains(variable) && *variable != "HOSTNAME");
        out.extend(told.map(|(variable, value)| format!("{prefix}_ENV_{variable}={value}")));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_docker_tells() {
        let linked = Linked {
            alias: "my-db".to_owned(),
            name: "postgres".to_owned(),
            hostname: "0123456789ab".to_owned(),
            address: Ipv4Addr::new(172, 17, 0, 2),
            ports: vec!["5432".parse().unwrap()],
            env: ["PATH=/bin", "HOME=/", "HOSTNAME=0123456789ab", "USER=x"].map(str::to_owned).to_vec(),
        };
        assert_eq!(linked.hosts_line(), "172.17.0.2\tmy-db 0123456789ab postgres\n");
        let expected = [
            "MY_DB_PORT=tcp://172.17.0.2:5432",
            "MY_DB_PORT_5432_TCP=tcp://172.17.0.2:5432",
            "MY_DB_PORT_5432_TCP_ADDR=172.17.0.2",
            "MY_DB_PORT_5432_TCP_PORT=5432",
            "MY_DB_PORT_5432_TCP_PROTO=tcp",
            "MY_DB_NAME=/web/my-db",
            "MY_DB_ENV_USER=x",
        ];
        assert_eq!(linked.variables("web"), expected);
    }
}
