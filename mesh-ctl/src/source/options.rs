//! Where the controller reads objects from: the options that say so.

use std::path::PathBuf;

use clap::Args;
use kube::Client;

use crate::kubernetes::{self, ConnectError};

/// Set in every pod by kubelet.
const IN_CLUSTER: &str = "KUBERNETES_SERVICE_HOST";

/// The options that choose a source.
#[derive(Clone, Debug, Args)]
pub struct SourceOptions {
    /// Directory of Kubernetes YAML or JSON; read at start and at each change.
    #[arg(long, value_name = "DIR", conflicts_with = "kube")]
    pub config_dir: Option<PathBuf>,
    /// Read from the Kubernetes API server; this is the default in a cluster and with --kubeconfig.
    #[arg(long)]
    pub kube: bool,
}

/// A source that was chosen.
pub enum Choice {
    /// A directory.
    Directory(PathBuf),
    /// An API server.
    Kubernetes(Client),
}

/// No source can be chosen.
#[derive(Debug, thiserror::Error)]
pub enum ChoiceError {
    /// Nothing says where objects are.
    #[error(
        "nothing says where to read objects from; give --config-dir DIR, or --kube (and, outside of a \
         cluster, --kubeconfig FILE)"
    )]
    None,
    /// There is no way to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl SourceOptions {
    /// The source that the options name; `kubeconfig` is the way to an API server.
    pub async fn choose(&self, kubeconfig: Option<&PathBuf>) -> Result<Choice, ChoiceError> {
        if let Some(directory) = &self.config_dir {
            return Ok(Choice::Directory(directory.clone()));
        }
        let in_cluster = std::env::var_os(IN_CLUSTER).is_some();
        if self.kube || kubeconfig.is_some() || in_cluster {
            let client = kubernetes::connect(kubeconfig).await?;
            return Ok(Choice::Kubernetes(client));
        }
        Err(ChoiceError::None)
    }
}
