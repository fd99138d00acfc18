//! The agent's settings, from flags or environment, checked before anything starts.

use clap::{ArgAction, Args, ValueEnum};
use ipnet::IpNet;
use mesh_common::identity::TrustDomain;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::direct::SameNode;
use crate::socket::CongestionControl;

/// Who says which pods are captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Enrol {
    /// Whoever calls `mesh-node enroll`.
    #[default]
    Manual,
    /// The controller; running pods are found by their cgroup, new ones come by `mesh-cni`.
    Kubernetes,
}

/// Settings of `mesh-node run`.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Name of this node, as the controller knows it.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// Cluster of this node.
    #[arg(long, env = "CLUSTER_ID", default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Trust domain of the mesh; peers of another are refused.
    #[arg(long, env = "TRUST_DOMAIN", default_value = "cluster.local")]
    pub trust_domain: TrustDomain,
    /// The controller: https://HOST:15012.
    #[arg(long, env = "CONTROLLER")]
    pub controller: String,
    /// PEM file with the root certificates that the controller's certificate must chain to.
    #[arg(long)]
    pub controller_ca: PathBuf,
    /// File with the bearer token for the controller; read again for each use, so it may be rotated.
    #[arg(long)]
    pub token_file: PathBuf,
    /// cgroup v2 folder to attach to: an ancestor of every pod and of the agent itself. Required with `--enrol
    /// manual`; with `--enrol kubernetes` it is found: kubelet's `kubepods`.
    #[arg(long, required_if_eq("enrol", "manual"))]
    pub cgroup: Option<PathBuf>,
    /// Who says which pods are captured: whoever calls `mesh-node enroll`, or the controller.
    #[arg(long, env = "ENROL", value_enum, default_value_t)]
    pub enrol: Enrol,
    /// Folder inside a mounted bpffs for programs, maps and links; one for each agent.
    #[arg(long, default_value = "/sys/fs/bpf/weft")]
    pub bpffs: PathBuf,
    /// Folder for the enrolment socket and the list of enrolled pods.
    #[arg(long, default_value = crate::enroll::DEFAULT_RUN_DIR)]
    pub run_dir: PathBuf,
    /// Folder for what must outlive a reboot: the controller's last answer to who is in the mesh.
    #[arg(long, default_value = crate::enroll::DEFAULT_STATE_DIR)]
    pub state_dir: PathBuf,
    /// Socket of a `mesh-node keeper`, which holds the pods' listeners while this agent restarts; one for each
    /// agent.
    #[arg(long)]
    pub keeper: Option<PathBuf>,
    /// Where the node's processes are shown, by which running pods are found.
    #[arg(long, default_value = "/proc")]
    pub proc: PathBuf,
    /// An address of the node itself, whose connections to pods (health probes) are let through. Without one,
    /// `--enrol kubernetes` takes all addresses of the node, and follows them.
    #[arg(long = "node-address", value_name = "IP")]
    pub node_addresses: Vec<IpAddr>,
    /// A destination port that is never captured.
    #[arg(long = "exclude-outbound-port", value_name = "PORT")]
    pub exclude_outbound_ports: Vec<u16>,
    /// A destination range that is never captured.
    #[arg(long = "exclude-outbound-cidr", value_name = "CIDR")]
    pub exclude_outbound_cidrs: Vec<IpNet>,
    /// Most pods that can be enrolled; sizes the kernel's tables.
    #[arg(long, default_value_t = 1024)]
    pub max_pods: u32,
    /// Most connections that can be in the middle of being set up; sizes the kernel's tables.
    #[arg(long, default_value_t = 65536)]
    pub max_flows: u32,
    /// How pods of this node reach each other: `tunnel`, or `direct`, which is faster and not encrypted. Read
    /// docs/operating.md before you choose.
    #[arg(long, env = "SAME_NODE", value_enum, default_value_t)]
    pub same_node: SameNode,
    /// Whether plaintext connections that no policy could allow are refused in the kernel: at once, counted by
    /// policy, without a line each in the access log.
    #[arg(long, env = "REFUSE_IN_KERNEL", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub refuse_in_kernel: bool,
    /// Where operators ask what the agent knows, and change what it logs; /status and others.
    #[arg(long, default_value = "127.0.0.1:15000")]
    pub admin_addr: SocketAddr,
    /// Where /metrics is served.
    #[arg(long, default_value = "0.0.0.0:15020")]
    pub metrics_addr: SocketAddr,
    /// Where /healthz/ready is served.
    #[arg(long, default_value = "0.0.0.0:15021")]
    pub ready_addr: SocketAddr,
    /// File that gets one JSON line per connection; `-` is standard output.
    #[arg(long, default_value = "-")]
    pub access_log: String,
    /// On SIGTERM, open connections may go on for this long.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub drain_deadline: Duration,
    /// Data-plane threads; default: one for each core.
    #[arg(long)]
    pub workers: Option<usize>,
    /// How long a data-plane thread may look for the next small message before it sleeps; it does so
    /// only while that pays. `0s`: never.
    #[arg(long, default_value = "200us", value_parser = humantime::parse_duration)]
    pub busy_poll: Duration,
    /// TCP congestion control of tunnels, one of `sysctl net.ipv4.tcp_available_congestion_control`;
    /// `system`: that of the node.
    #[arg(long, default_value = "cubic")]
    pub tunnel_congestion_control: CongestionControl,
}
