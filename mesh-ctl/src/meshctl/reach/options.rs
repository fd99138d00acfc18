//! The options that say where the mesh is.

use std::path::PathBuf;
use std::time::Duration;

use super::url::{AgentUrl, ControllerUrl};

/// How to find agents and controllers.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Where the mesh is")]
pub struct ReachOptions {
    /// Admin address of an agent, such as http://10.0.0.1:15000; may be given more than once. Then
    /// Kubernetes is not asked
    #[arg(
        long,
        value_name = "URL",
        env = "MESHCTL_NODE_URLS",
        value_delimiter = ',',
        global = true
    )]
    pub node_url: Vec<AgentUrl>,
    /// Admin address of a controller, such as http://10.0.0.1:15014; may be given more than once
    #[arg(
        long,
        value_name = "URL",
        env = "MESHCTL_CONTROLLER_URLS",
        value_delimiter = ',',
        global = true
    )]
    pub controller_url: Vec<ControllerUrl>,
    /// Kubeconfig file; without it KUBECONFIG, ~/.kube/config, or the service account of the pod
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; without it the current one
    #[arg(long, value_name = "NAME", global = true)]
    pub context: Option<String>,
    /// Namespace of the agents and controllers
    #[arg(
        long,
        value_name = "NAMESPACE",
        default_value = "weft-system",
        global = true
    )]
    pub mesh_namespace: String,
    /// Ask only the agent of this node; may be given more than once
    #[arg(long, value_name = "NAME", global = true)]
    pub node: Vec<String>,
    /// How long each agent and controller may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration, global = true)]
    pub timeout: Duration,
}

/// Where the addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Urls,
    Cluster,
}

impl ReachOptions {
    pub(super) fn way(&self) -> Way {
        if self.node_url.is_empty() && self.controller_url.is_empty() {
            Way::Cluster
        } else {
            Way::Urls
        }
    }
}
