//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use mesh_common::identity::TrustDomain;

use crate::auth::Account;
use crate::compile;
use crate::source::SourceOptions;

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
    /// Directory of ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem; when it is empty, a
    /// self-signed CA is created in it.
    #[arg(long, value_name = "DIR")]
    pub ca_dir: PathBuf,
    /// Trust domain of every identity.
    #[arg(long, default_value = "cluster.local", value_parser = trust_domain)]
    pub trust_domain: TrustDomain,
    /// Name of the cluster.
    #[arg(long, default_value = "Kubernetes")]
    pub cluster_id: String,
    /// Namespace whose policies are for the whole mesh.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    pub root_namespace: String,
    /// Keys that the nodes' tokens are verified with; read again when the file changes.
    #[arg(long, value_name = "FILE")]
    pub jwks_file: PathBuf,
    /// Audience that a token must be for.
    #[arg(long, value_name = "AUDIENCE", default_value = "istio-ca")]
    pub token_audience: String,
    /// Issuer that a token must be from; any when absent.
    #[arg(long, value_name = "ISSUER")]
    pub token_issuer: Option<String>,
    /// Service account of a trusted node agent; may be given more than once.
    #[arg(long, value_name = "NAMESPACE/NAME", required = true)]
    pub node_account: Vec<Account>,
    /// DNS name or address in the serving certificate; may be given more than once.
    #[arg(long, value_name = "NAME", required = true)]
    pub server_name: Vec<String>,
    /// Longest life of a workload certificate.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = lifetime)]
    pub cert_ttl: Duration,
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
            root_namespace: self.root_namespace.clone(),
            dataplane_label: self.dataplane_label.clone(),
            dataplane_value: self.dataplane_value.clone(),
        }
    }
}

fn trust_domain(text: &str) -> Result<TrustDomain, String> {
    text.parse().map_err(|e| format!("{e}"))
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if lifetime < Duration::from_secs(60) {
        return Err("must be at least 1m".into());
    }
    Ok(lifetime)
}
