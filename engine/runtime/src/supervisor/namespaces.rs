//! What others do with a container's namespaces: join them, connect its network to more.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::resolver::Resolver;
use super::serve::Server;
use crate::protocol::{self, Reply};

impl Server<'_> {
    pub(super) fn send_namespaces(&mut self, number: u64) {
        let network = self.network_namespace().ok();
        let init = self.init.as_ref();
        let descriptors: Vec<BorrowedFd<'_>> =
            init.into_iter().chain(network.as_ref()).map(AsFd::as_fd).collect();
        let reply = Reply::Namespaces { init: init.is_some() };
        let Some(client) = self.clients.get(&number) else { return };
        if client.connection.send(&reply, &descriptors).is_err() {
            self.clients.remove(&number);
        }
    }

    /// Answers DNS queries by another configuration, for the first time perhaps.
    pub(super) fn resolve(&mut self, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let body = descriptors.into_iter().next().ok_or(io::ErrorKind::InvalidInput)?;
        let config = protocol::read_body(body)?;
        if let Some(resolver) = &mut self.resolver {
            resolver.configure(config);
            return Ok(());
        }
        let network = self.network_namespace()?;
        self.resolver = Some(Resolver::listen(&config, network.as_fd()).map_err(io::Error::other)?);
        Ok(())
    }

    /// The container's network namespace, whoever's it is.
    fn network_namespace(&self) -> io::Result<OwnedFd> {
        match (&self.network, self.state.pid) {
            (Some(own), _) => own.try_clone(),
            // Not waited for yet, so the number is still its.
            (None, Some(pid)) => Ok(File::open(format!("/proc/{pid}/ns/net"))?.into()),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
