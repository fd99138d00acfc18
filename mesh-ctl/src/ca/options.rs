//! The options of the certificate authority.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::material::SecretName;
use super::store::Store;
use super::{Directory, SecretStore};
use crate::kubernetes::{self, ConnectError};

/// A shorter life would be over before the certificate is in use.
const SHORTEST: Duration = Duration::from_secs(60);

/// Where the authority is kept.
#[derive(Clone, Debug, Args)]
#[group(id = "ca", required = true, multiple = false)]
pub struct Location {
    /// Directory of ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem; when it is empty, a
    /// self-signed CA is created in it. Changes are put in force at once.
    #[arg(long, value_name = "DIR")]
    pub ca_dir: Option<PathBuf>,
    /// Kubernetes Secret with the same names as keys; when it is absent, a self-signed CA is created in it.
    /// Changes are put in force at once.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub ca_secret: Option<SecretName>,
}

impl Location {
    /// The directory, or else the Secret.
    pub async fn store(&self, kubeconfig: Option<&PathBuf>) -> Result<Store, ConnectError> {
        if let Some(secret) = &self.ca_secret {
            let client = kubernetes::connect(kubeconfig).await?;
            let secret = SecretStore::new(client, secret.clone());
            return Ok(Store::Secret(Box::new(secret)));
        }
        let directory = self.ca_dir.clone().unwrap_or_default();
        Ok(Store::Directory(Directory::new(directory)))
    }
}

/// What is issued.
#[derive(Clone, Debug, Args)]
pub struct Lifetimes {
    /// Longest life of a workload certificate.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = lifetime)]
    pub cert_ttl: Duration,
    /// Shortest life of a workload certificate; a request for less gets this.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = lifetime)]
    pub min_cert_ttl: Duration,
}

impl Lifetimes {
    /// What a request for `asked` gets; none asks for the longest.
    pub fn clip(&self, asked: Option<Duration>) -> Duration {
        let asked = asked.unwrap_or(self.cert_ttl);
        // The upper limit wins if they contradict each other.
        asked.max(self.min_cert_ttl).min(self.cert_ttl)
    }
}

/// Where the root bundle is published.
#[derive(Clone, Debug, Args)]
pub struct Publication {
    /// Name of the ConfigMap with the root bundle (root-cert.pem) in every enrolled namespace.
    #[arg(long, value_name = "NAME", default_value = "istio-ca-root-cert")]
    pub root_configmap: String,
    /// Publish the root bundle as a ConfigMap in every enrolled namespace.
    #[arg(long)]
    pub publish_roots: bool,
}

pub(super) fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    if lifetime < SHORTEST {
        return Err("must be at least 1m".into());
    }
    Ok(lifetime)
}
