//! An enrolled pod, as the data plane sees it.

use mesh_common::snapshot::Snapshot;
use mesh_common::workload::Workload;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::drain::Drain;
use crate::sys::Netns;

/// A pod whose traffic is captured. Its name comes from whoever enrolled it, its network namespace
/// is where its listeners live: what these accept is this pod's, which no packet can forge.
#[derive(Debug)]
pub struct Pod {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Pod name.
    pub name: String,
    /// `metadata.uid`; empty when it is not known.
    pub uid: String,
    /// Network namespace.
    pub netns: Netns,
    /// Where the network namespace was opened from, to find it again after a restart.
    pub netns_path: PathBuf,
    /// Addresses found in the network namespace.
    pub addresses: Vec<IpAddr>,
    /// Ends this pod's tunnels when it is un-enrolled or the agent leaves.
    pub drain: Drain,
}

impl Pod {
    /// The pod's workload as the controller describes it; none while it is unknown.
    #[must_use]
    pub fn workload(&self, snapshot: &Snapshot) -> Option<Arc<Workload>> {
        snapshot
            .workload_by_name(&self.namespace, &self.name)
            .cloned()
    }
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
