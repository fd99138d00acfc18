//! Where the load of one contender runs: a client, a server, and the proxies between them.

use super::contender::Contender;
use super::peer::Peer;
use super::server;
use crate::agent::Agent;
use crate::mesh::Mesh;
use crate::topology::Pod;
use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where the load of one contender runs.
pub(super) struct Arm {
    /// Whose it is.
    pub(super) contender: Contender,
    /// The pod that sends.
    pub(super) client: Pod,
    /// The pod that answers.
    pub(super) server: Pod,
    /// The load generator's server.
    pub(super) load: SocketAddr,
    /// The web server.
    pub(super) web: SocketAddr,
    /// The proxies between them, each once.
    pub(super) proxies: Vec<Proxy>,
}

impl Arm {
    /// From one pod to another; of `proxies` those that run on the pods' nodes.
    pub(super) fn new(contender: Contender, client: &Pod, server: &Pod, proxies: &[Proxy]) -> Self {
        let serves = |proxy: &&Proxy| [client.node, server.node].contains(&proxy.node);
        Self {
            contender,
            client: client.clone(),
            server: server.clone(),
            load: SocketAddr::new(server.v4.into(), server::LOAD_PORT),
            web: SocketAddr::new(server.v4.into(), server::WEB_PORT),
            proxies: proxies.iter().filter(serves).cloned().collect(),
        }
    }

    /// Which end of the connections this proxy serves.
    pub(super) fn side(&self, proxy: &Proxy) -> &'static str {
        if proxy.node == self.client.node {
            "client-side"
        } else {
            "server-side"
        }
    }

    /// The cgroups of the proxies.
    pub(super) fn cgroups(&self) -> Vec<PathBuf> {
        self.proxies
            .iter()
            .map(|proxy| proxy.cgroup.clone())
            .collect()
    }
}

/// A proxy's process.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    /// Its process id.
    pub(super) pid: u32,
    /// The cgroup in which it alone runs.
    pub(super) cgroup: PathBuf,
    /// The number of its node.
    pub(super) node: u8,
}

impl Proxy {
    /// That of the peer on one node.
    pub(super) fn of_peer(peer: &Peer) -> Self {
        Self {
            pid: peer.pid(),
            cgroup: peer.cgroup().to_owned(),
            node: peer.node().number,
        }
    }
}

/// The agents of these nodes, as proxies.
pub(super) fn agents(mesh: &Mesh, nodes: &[u8]) -> Result<Vec<Proxy>> {
    let agents = mesh.agents.iter();
    let chosen = agents.filter(|agent| nodes.contains(&agent.node().number));
    let proxy = |agent: &Agent| {
        Ok(Proxy {
            pid: agent.pid().context("an agent does not run")?,
            cgroup: agent.node().agent.cgroup().to_owned(),
            node: agent.node().number,
        })
    };
    chosen.map(proxy).collect()
}
