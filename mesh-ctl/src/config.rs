//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use mesh_common::identity::TrustDomain;

use crate::auth::options::AuthOptions;
use crate::source::SourceOptions;
use crate::xds::options::DiscoveryOptions;
use crate::{ca, compile};

/// The Weft controller: tells every node of the mesh what runs where and who may talk to whom, and
/// signs the certificates of what runs there.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Config {
    /// Where objects are read from.
    #[command(flatten)]
    pub source: SourceOptions,
    /// Address of the gRPC port, which nodes dial.
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:15012")]
    pub listen: SocketAddr,
    /// Address of the admin endpoints.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15014")]
    pub admin_addr: SocketAddr,
    /// Kubeconfig file; without it, KUBECONFIG or the pod's own service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Where the certificate authority is kept.
    #[command(flatten)]
    pub ca: ca::options::Location,
    /// Trust domain of every identity.
    #[arg(long, default_value = "cluster.local", value_parser = trust_domain)]
    pub trust_domain: TrustDomain,
    /// Another name of the trust domain: policies that name it, or any other of its names, match. Nothing
    /// is issued for it. May be given more than once.
    #[arg(long, value_parser = trust_domain)]
    pub trust_domain_alias: Vec<TrustDomain>,
    /// Name of the cluster.
    #[arg(long, default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Namespace whose policies are for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// Which tokens are accepted.
    #[command(flatten)]
    pub auth: AuthOptions,
    /// DNS name or address in the serving certificate; may be given more than once.
    #[arg(long, value_name = "NAME", required = true)]
    pub server_name: Vec<String>,
    /// How long certificates live.
    #[command(flatten)]
    pub lifetimes: ca::options::Lifetimes,
    /// Where the root bundle is published.
    #[command(flatten)]
    pub publication: ca::options::Publication,
    /// Of discovery.
    #[command(flatten)]
    pub discovery: DiscoveryOptions,
    /// Label on a namespace or pod that enrols it.
    #[arg(long, value_name = "KEY", default_value = "istio.io/dataplane-mode")]
    pub dataplane_label: String,
    /// Value of that label that enrols.
    #[arg(long, value_name = "VALUE", default_value = "ambient")]
    pub dataplane_value: String,
}

impl Config {
    /// What the compilation depends on.
    pub fn compile_options(&self) -> compile::Options {
        compile::Options {
            cluster_id: self.cluster_id.clone(),
            trust_domain: self.trust_domain.to_string(),
            trust_domain_aliases: self
                .trust_domain_alias
                .iter()
                .map(ToString::to_string)
                .collect(),
            root_namespace: self.root_namespace.clone(),
            dataplane_label: self.dataplane_label.clone(),
            dataplane_value: self.dataplane_value.clone(),
        }
    }

    /// Where the root bundle is published: in enrolled namespaces, and where the agents run.
    pub fn bundle_target(&self) -> ca::bundle::Target {
        let agents = self.auth.node_account.iter();
        let agents = agents.map(|account| account.namespace.clone());
        ca::bundle::Target {
            name: self.publication.root_configmap.clone(),
            label: self.dataplane_label.clone(),
            value: self.dataplane_value.clone(),
            always: agents.chain([self.root_namespace.clone()]).collect(),
        }
    }
}

fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    text.parse().map_err(|e| format!("{e}"))
}
