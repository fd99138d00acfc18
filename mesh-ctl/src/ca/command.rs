//! `mesh-controller ca`: the steps of a root rotation.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use super::options::{Location, lifetime};
use super::rotation::{self, Moment};
use super::store::{Read, Store};
use super::{CaError, Directory, Material, Signer};
use crate::kubernetes::ConnectError;

/// A step cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It was refused, or failed.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// There is no way to the Secret.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is no authority yet.
    #[error("{0}: there is no certificate authority yet; start the controller first")]
    Absent(String),
}

/// Show the certificate authority, or change its root step by step.
#[derive(Clone, Debug, Subcommand)]
pub enum Step {
    /// Show who signs, what is trusted, and how far a rotation is.
    Status(Target),
    /// Step 1: add a new root to the trust bundle. Workloads learn of it as they renew.
    Prepare {
        /// Directory with the new ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem; a
        /// self-signed CA is made when it is not given.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
        /// The authority.
        #[command(flatten)]
        target: Target,
    },
    /// Step 2: let the new root sign. Refused until every workload trusts it.
    Activate(Forced),
    /// Step 3: drop the old root from the bundle. Refused until nobody uses it.
    Finish(Forced),
    /// Take the last step back: the old root signs again, or the new one leaves the bundle.
    Rollback(Forced),
}

/// Which authority, and what it issues.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// Where it is kept.
    #[command(flatten)]
    pub location: Location,
    /// Kubeconfig file for --ca-secret; without it, KUBECONFIG or the pod's own service account.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Longest life of a workload certificate, as the controllers have it.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = lifetime)]
    pub cert_ttl: Duration,
}

/// A step that may have to wait.
#[derive(Clone, Debug, Args)]
pub struct Forced {
    /// The authority.
    #[command(flatten)]
    pub target: Target,
    /// Do not wait: connections between workloads that trust different roots fail.
    #[arg(long)]
    pub force: bool,
}

impl Step {
    fn target(&self) -> &Target {
        match self {
            Self::Status(target) | Self::Prepare { target, .. } => target,
            Self::Activate(forced) | Self::Finish(forced) | Self::Rollback(forced) => {
                &forced.target
            }
        }
    }

    /// Takes the step; what to tell the operator.
    pub async fn run(&self) -> Result<String, CommandError> {
        let target = self.target();
        let store = target.location.store(target.kubeconfig.as_ref()).await?;
        let absent = || CommandError::Absent(store.place().to_string());
        let read = store.read().await?.ok_or_else(absent)?;
        let force = match self {
            Self::Status(_) | Self::Prepare { .. } => false,
            Self::Activate(forced) | Self::Finish(forced) | Self::Rollback(forced) => forced.force,
        };
        let moment = Moment {
            now: SystemTime::now(),
            ttl: target.cert_ttl,
            force,
        };
        let after = self.take(&store, read, &moment).await?;
        describe(&store, &after, &moment).map_err(CommandError::from)
    }

    async fn take(
        &self,
        store: &Store,
        read: Read,
        moment: &Moment,
    ) -> Result<Material, CommandError> {
        let (place, material) = (store.place(), &read.material);
        let after = match self {
            Self::Status(_) => return Ok(read.material),
            Self::Prepare { from, .. } => {
                let next = match from {
                    Some(directory) => Some(successor(directory, moment)?),
                    None => None,
                };
                rotation::prepare(material, next.as_ref(), place, moment)?
            }
            Self::Activate(_) => rotation::activate(material, place, moment)?,
            Self::Rollback(_) => rotation::rollback(material, place, moment)?,
            Self::Finish(_) => {
                let [finishing, finished] = rotation::finish(material, place, moment)?;
                let read = store.write(&read, &finishing).await?;
                return Ok(store.write(&read, &finished).await?.material);
            }
        };
        if after == read.material {
            return Ok(after);
        }
        Ok(store.write(&read, &after).await?.material)
    }
}

/// The authority in that directory, which must be usable.
fn successor(directory: &Path, moment: &Moment) -> Result<Material, CaError> {
    let directory = Directory::new(directory.into());
    let files = directory.read()?.conventional();
    Signer::load(&files, directory.place(), moment.now)?;
    Ok(files)
}

fn describe(store: &Store, material: &Material, moment: &Moment) -> Result<String, CaError> {
    let signer = Signer::load(material, store.place(), moment.now)?;
    let mut text = format!("certificate authority: {}\n", store.place());
    for root in signer.roots() {
        let signs = if root.signs { ", signs" } else { "" };
        text += &format!(
            "  root {} ({}){signs}\n",
            root.subject,
            &root.fingerprint[..16]
        );
    }
    text += &format!(
        "  what it signs ends on {} at the latest\nrotation: {}\n",
        humantime::format_rfc3339_seconds(signer.not_after()),
        rotation::status(material, moment)?
    );
    Ok(text)
}
