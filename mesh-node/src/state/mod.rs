//! What the agent knows: the state of the mesh and the certificates of local identities, both from the
//! controller.
//!
//! Readers never wait for the network and never lock out each other: state comes as immutable snapshots
//! through a watch channel, and a certificate at hand is returned at once. What was good stays in use while
//! the controller is away.

mod certificates;
mod chain;
mod controller;
mod delta;
mod issue;
mod node;
mod schedule;
mod svid;
#[cfg(test)]
mod tests;
mod xds;

pub use certificates::{CertificateError, Certificates};
pub use controller::{ControllerError, StateOptions};
pub(crate) use svid::uris;
pub use svid::{Svid, SvidError};

use mesh_common::snapshot::Snapshot;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::enroll::Answer;
use controller::Controller;

/// How the agent stands with the controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatus {
    /// Whether the discovery stream is open.
    pub connected: bool,
    /// Whether a complete state has ever arrived.
    pub synced: bool,
    /// When the controller last sent something.
    pub last_update: Option<SystemTime>,
    /// What went wrong last, if it was not put right since.
    pub last_error: Option<String>,
}

/// The state of the mesh, kept up to date. Cheap to clone.
#[derive(Clone, Debug)]
pub struct State {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    answers: watch::Receiver<Option<Arc<Answer>>>,
    status: watch::Receiver<SyncStatus>,
}

impl State {
    /// Starts to follow the controller, on the tokio runtime of the caller. It ends when every clone and
    /// every receiver is gone. The controller need not be there yet. Who is enrolled on this node is asked
    /// for when `enrolment` says so; until that is answered it is what `last` was.
    ///
    /// # Errors
    /// When the controller's URL is unusable.
    pub fn start(
        options: StateOptions,
        enrolment: bool,
        last: Option<Answer>,
    ) -> Result<Self, ControllerError> {
        let controller = Controller::new(options)?;
        let runtime = Handle::try_current().map_err(|_| ControllerError::NoRuntime)?;
        let (publish, snapshot) = watch::channel(Arc::default());
        let (answer, answers) = watch::channel(last.map(Arc::new));
        let (status_sender, status) = watch::channel(SyncStatus::default());
        let client = xds::Client {
            controller,
            publish,
            answers: enrolment.then_some(answer),
            status: status_sender,
        };
        runtime.spawn(client.run());
        Ok(Self {
            snapshot,
            answers,
            status,
        })
    }

    /// Who is enrolled on this node, by the controller's last answer; none until the first.
    #[must_use]
    pub fn answers(&self) -> watch::Receiver<Option<Arc<Answer>>> {
        self.answers.clone()
    }

    /// The newest state; empty until the first complete one.
    #[must_use]
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Completes once there is a complete state. A cancelled wait loses nothing.
    pub async fn synced(&self) {
        let mut status = self.status.clone();
        if status.wait_for(|status| status.synced).await.is_err() {
            // The client is gone with its runtime: there will be no state.
            std::future::pending::<()>().await;
        }
    }

    /// How things stand with the controller.
    #[must_use]
    pub fn sync_status(&self) -> SyncStatus {
        self.status.borrow().clone()
    }
}
