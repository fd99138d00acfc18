//! Where a cluster's parts are, and what they are called.

use std::path::{Path, PathBuf};

/// Names of everything begin so.
pub(super) const NAME: &str = "weft-k8s";
/// The machine's folders of which each node has its own.
pub(super) const OWN: [&str; 11] = [
    "etc/cni/net.d",
    "opt/cni/bin",
    "run/containerd",
    "run/netns",
    "run/weft",
    "var/lib/cni",
    "var/lib/containerd",
    "var/lib/kubelet",
    "var/lib/weft",
    "var/log/containers",
    "var/log/pods",
];
/// The link between the nodes, as each node calls it.
pub const WIRE: &str = "wire0";
/// The address of the API server, which is on the first node.
pub(super) const API: &str = "https://10.210.0.2:6443";
/// Virtual addresses of services.
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// All pods' addresses.
pub(super) const PODS: &str = "10.244.0.0/16";

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name in Kubernetes, and its host name.
    pub name: &'static str,
    /// Its network namespace.
    pub netns: &'static str,
    /// Its address on the wire.
    pub address: &'static str,
    /// Its pods' addresses.
    pub pods: &'static str,
}

/// The nodes. The control plane is on the first.
pub const NODES: [Node; 2] = [
    Node {
        name: "node1",
        netns: "weft-k8s-node1",
        address: "10.210.0.2",
        pods: "10.244.0.0/24",
    },
    Node {
        name: "node2",
        netns: "weft-k8s-node2",
        address: "10.210.0.3",
        pods: "10.244.1.0/24",
    },
];

/// The folders of a cluster.
#[derive(Debug)]
pub struct Layout {
    programs: PathBuf,
    state: PathBuf,
}

impl Layout {
    /// One with the programs of Kubernetes from `programs`. What the cluster keeps is in /var/lib, because
    /// containerd's overlays need a file system that is none itself.
    pub fn new(programs: &Path) -> Self {
        Self {
            programs: programs.to_owned(),
            state: Path::new("/var/lib").join(NAME),
        }
    }

    /// The administrator's configuration.
    pub fn kubeconfig(&self) -> PathBuf {
        self.keys().join("admin.kubeconfig")
    }

    /// What every daemon prints.
    pub fn logs(&self) -> PathBuf {
        self.state.join("log")
    }

    /// A node's own folders, as they are seen from outside.
    pub fn node(&self, node: &Node) -> PathBuf {
        self.state.join(node.name)
    }

    /// Everything that goes with the cluster.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.state.join("keys")
    }

    /// Where the programs of Kubernetes are.
    pub(super) fn programs(&self) -> &Path {
        &self.programs
    }

    /// A program of Kubernetes.
    pub(super) fn program(&self, name: &str) -> String {
        self.programs.join(name).display().to_string()
    }

    pub(super) fn see_logs(&self) -> String {
        format!(
            "the cluster did not come up; read {}, then `cargo xtask k8s down`",
            self.logs().display()
        )
    }
}
