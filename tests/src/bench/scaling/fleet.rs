//! Pairs of pods, a client on one node and a server on the other, so that every thread has connections.

use super::OPTION;
use crate::bench::arm::{self, Arm};
use crate::bench::contender::{Contender, Via};
use crate::bench::{evidence, server};
use crate::mesh::{Mesh, PodSpec};
use crate::process::Process;
use anyhow::Result;

/// How many pairs there are. Connections to one pod arrive on some of the threads only.
pub(super) const PAIRS: u32 = 4;

const NAMESPACE: &str = "bench";

/// A mesh of two nodes with the pairs on it.
pub(super) struct Fleet {
    /// One for each pair.
    pub(super) arms: Vec<Arm>,
    /// The agents' process ids.
    pub(super) pids: Vec<u32>,
    _servers: Vec<Process>,
    _mesh: Mesh,
}

impl Fleet {
    /// Starts it, the agents with this many data-plane threads.
    pub(super) fn start(workers: u32) -> Result<Self> {
        let option = OPTION.trim_start_matches('-');
        let mut mesh = Mesh::with_options(2, None, &[(option, &workers.to_string())])?;
        mesh.config.namespace(NAMESPACE, true)?;
        let (mut arms, mut servers) = (Vec::new(), Vec::new());
        let proxies = arm::agents(&mesh, &[1, 2])?;
        for number in 0..PAIRS {
            let mut pod = |node, name: &str| -> Result<_> {
                let name = format!("{name}-{number}");
                let pod = mesh.add_enrolled(&PodSpec::named(node, NAMESPACE, &name))?;
                server::allow_many_connections(&pod)?;
                Ok(pod)
            };
            let (client, server) = (pod(1, "client")?, pod(2, "server")?);
            servers.extend(server::start(&server)?);
            let contender = Contender {
                via: Via::Weft,
                same_node: false,
            };
            arms.push(Arm::new(contender, &client, &server, &proxies));
        }
        Ok(Self {
            arms,
            pids: proxies.iter().map(|proxy| proxy.pid).collect(),
            _servers: servers,
            _mesh: mesh,
        })
    }

    /// Fails when a server is not reached through a tunnel.
    pub(super) fn check(&self) -> Result<()> {
        self.arms.iter().try_for_each(evidence::check_tunnel)
    }
}
