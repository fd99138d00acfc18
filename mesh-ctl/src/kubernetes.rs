//! The way to the Kubernetes API server.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A kubeconfig file is unusable.
    #[error("{file}: is not a usable kubeconfig: {reason}; check --kubeconfig")]
    Kubeconfig {
        /// Which file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing says where the API server is.
    #[error("no Kubernetes API server is configured: {0}; give --kubeconfig or run in a pod")]
    Unknown(String),
    /// The client cannot be made.
    #[error("cannot talk to the Kubernetes API server: {0}")]
    Client(String),
}

/// A client by that kubeconfig file; without one, by `KUBECONFIG`, or the pod's own service account.
pub async fn connect(kubeconfig: Option<&PathBuf>) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => {
            let bad = |reason: String| ConnectError::Kubeconfig {
                file: path.display().to_string(),
                reason,
            };
            let read = Kubeconfig::read_from(path).map_err(|e| bad(e.to_string()))?;
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(read, &options).await;
            config.map_err(|e| bad(e.to_string()))?
        }
        None => Config::infer()
            .await
            .map_err(|e| ConnectError::Unknown(e.to_string()))?,
    };
    Client::try_from(config).map_err(|e| ConnectError::Client(e.to_string()))
}
