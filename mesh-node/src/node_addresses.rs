//! The node's own addresses, found and followed: connections from them (kubelet's probes) pass to the pods.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use crate::bpf::Datapath;
use crate::sys::{AddressChanges, Netns, node_addresses};

/// Where the node's addresses are.
#[derive(Debug)]
pub(crate) struct NodeAddresses {
    netns: Netns,
    changes: AddressChanges,
}

impl NodeAddresses {
    /// The addresses of the network namespace of the node's first process, which may be another one than the
    /// agent's own.
    pub(crate) fn of(proc: &Path) -> io::Result<Self> {
        let path = proc.join("1/ns/net");
        let netns = Netns::open(&path).map_err(|e| {
            let hint = "the agent must see the node's processes (hostPID) and have CAP_SYS_PTRACE";
            io::Error::new(e.kind(), format!("{}: {e}; {hint}", path.display()))
        })?;
        Ok(Self {
            // Before the first look, so that no change is missed.
            changes: AddressChanges::of(&netns)?,
            netns,
        })
    }

    pub(crate) fn now(&self) -> io::Result<Vec<IpAddr>> {
        node_addresses(&self.netns)
    }
}

/// Keeps the data path up to date on a thread of its own, for as long as the process lives.
pub(crate) fn follow(own: NodeAddresses, datapath: Arc<Datapath>) -> io::Result<()> {
    let follow = move || {
        loop {
            let renewed = own
                .changes
                .wait()
                .and_then(|()| own.now())
                .map(|addresses| datapath.set_node_addresses(&addresses));
            match renewed {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::error!("addresses of the node: {e}"),
                Err(e) => {
                    return tracing::error!("addresses of the node are followed no more: {e}");
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("node-addresses".into())
        .spawn(follow)?;
    Ok(())
}
