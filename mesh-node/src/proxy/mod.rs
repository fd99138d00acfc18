//! The data plane: what is captured in a pod is identified, authorized and then relayed.
//!
//! One way only. `outbound` takes what connect() was redirected to, identifies where it was going and
//! opens a tunnel there. `inbound` terminates tunnels, `plaintext` takes what came in the clear; both
//! need a `Permit` of `authorize` before `deliver` connects to the application.

mod admission;
mod authorize;
mod deliver;
mod denial;
mod dial;
mod facts;
mod identify;
mod inbound;
mod loads;
mod outbound;
mod plaintext;
mod registry;
mod relay;
mod serve;
mod workers;

#[cfg(test)]
pub(crate) use facts::Facts;
pub use facts::judge;
pub use registry::Registry;
pub use serve::{Listeners, serve_pod};
pub use workers::{Tuning, Workers};

use mesh_common::snapshot::Snapshot;
use mesh_common::workload::Workload;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::bpf::Datapath;
use crate::direct::Direct;
use crate::hbone::OpenTunnels;
use crate::observe::Observer;
use crate::pod::Pod;
use crate::refuse::Refuser;
use crate::state::{CertificateError, Certificates, Svid};
use loads::Loads;

/// How long a new connection waits for its pod to become known and certified.
const IDENTITY_WITHIN: Duration = Duration::from_secs(10);

/// What every stage works with. Cheap to clone.
#[derive(Clone)]
pub struct Mesh {
    /// Workloads, services and policies.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// SVIDs of local identities.
    pub certificates: Certificates,
    /// The eBPF side.
    pub datapath: Arc<Datapath>,
    /// What does without tunnels.
    pub direct: Direct,
    /// What the kernel refuses by itself.
    pub refuser: Refuser,
    /// Tunnels that are open.
    pub tunnels: OpenTunnels,
    /// Live inbound connections.
    pub registry: Registry,
    /// Where records go.
    pub observer: Observer,
    /// Accepted connections, in either direction, until their last byte.
    pub connections: TaskTracker,
    loads: Loads,
}

/// The agent cannot speak for the pod.
#[derive(Debug, Error)]
pub enum NoIdentity {
    /// The controller has not named the pod.
    #[error("pod {0} is unknown to the controller; check that it exists there and is in the mesh")]
    UnknownPod(String),
    /// No certificate could be had.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate took too long.
    #[error(
        "no certificate for pod {0} within 10 s; see the agent's log for the controller's state"
    )]
    Timeout(String),
}

impl Mesh {
    /// A data plane without pods.
    #[must_use]
    pub fn new(
        snapshot: watch::Receiver<Arc<Snapshot>>,
        certificates: Certificates,
        datapath: Arc<Datapath>,
        direct: Direct,
        refuser: Refuser,
        observer: Observer,
    ) -> Self {
        Self {
            snapshot,
            certificates,
            datapath,
            direct,
            refuser,
            tunnels: OpenTunnels::default(),
            registry: Registry::default(),
            observer,
            connections: TaskTracker::new(),
            loads: Loads::default(),
        }
    }

    /// The current state.
    fn state(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// The pod's workload, waited for if it is new.
    async fn workload(&self, pod: &Pod) -> Result<Arc<Workload>, NoIdentity> {
        let mut snapshot = self.snapshot.clone();
        let known = snapshot.wait_for(|s| pod.workload(s).is_some());
        match tokio::time::timeout(IDENTITY_WITHIN, known).await {
            Ok(Ok(state)) => pod
                .workload(&state)
                .ok_or_else(|| NoIdentity::UnknownPod(pod.to_string())),
            _ => Err(NoIdentity::UnknownPod(pod.to_string())),
        }
    }

    /// The pod's SVID, waited for if it is new.
    async fn svid(&self, pod: &Pod, workload: &Workload) -> Result<Arc<Svid>, NoIdentity> {
        let identity = workload.identity();
        match tokio::time::timeout(IDENTITY_WITHIN, self.certificates.get(&identity)).await {
            Ok(svid) => Ok(svid?),
            Err(_) => Err(NoIdentity::Timeout(pod.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_outbound<A, B, C, D, F>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    fn of_inbound<A, B, C, F>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// The task of a connection lives as long as the connection: what it takes, ten thousand idle
    /// ones take ten thousand times.
    #[test]
    fn the_task_of_a_connection_is_small() {
        let (outbound, inbound) = (of_outbound(outbound::handle), of_inbound(inbound::stream));
        println!("{outbound} {inbound}");
        assert!(outbound <= 1100, "outbound: {outbound} bytes");
        assert!(inbound <= 1100, "inbound: {inbound} bytes");
    }
}
