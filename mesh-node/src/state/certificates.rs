//! The SVIDs of local identities: obtained when first asked for, renewed in the background, kept while
//! valid, never returned once expired.
//!
//! There is one task for each identity, so however many connections wait for the same SVID, the
//! controller is asked once. While attempts fail, whoever asks is told why at once.

use mesh_common::admin::CertificateStatus;
use mesh_common::identity::SpiffeId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::chain;
use super::controller::{Controller, ControllerError, StateOptions};
use super::issue::Authority;
use super::schedule::{Backoff, capped, renewal, wait};
use super::svid::{Svid, SvidError};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(150);
/// The clock is looked at this often, so that one that was set does not make a renewal late.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);

/// There is no valid SVID.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CertificateError {
    /// The controller could not be asked, or refused.
    #[error("no certificate for {0}: {1}")]
    Controller(SpiffeId, ControllerError),
    /// The controller's answer is no good.
    #[error("no certificate for {0}: the controller's answer cannot be used: {1}")]
    Answer(SpiffeId, SvidError),
    /// The request could not be made.
    #[error("no certificate for {0}: cannot make a signing request: {1}")]
    Request(SpiffeId, String),
    /// Nobody tries any more: it was released meanwhile, or the agent stops.
    #[error("no certificate for {0}: it is not kept any more")]
    Released(SpiffeId),
}

/// What the task of one identity shows.
#[derive(Clone, Debug, Default)]
struct Progress {
    svid: Option<Arc<Svid>>,
    /// The last attempt's, if it failed.
    error: Option<CertificateError>,
}

impl Progress {
    fn valid(&self) -> Option<&Arc<Svid>> {
        self.svid
            .as_ref()
            .filter(|svid| svid.is_valid_at(SystemTime::now()))
    }
}

#[derive(Debug)]
struct Entry {
    progress: watch::Receiver<Progress>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    authority: Arc<Authority>,
    runtime: Handle,
    entries: Mutex<HashMap<SpiffeId, Entry>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let entries = self
            .entries
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        entries.values().for_each(|entry| entry.task.abort());
    }
}

/// The manager. Cheap to clone; when the last clone is gone, renewals end.
#[derive(Clone, Debug)]
pub struct Certificates(Arc<Shared>);

impl Certificates {
    /// A manager whose work runs on the tokio runtime of the caller. Asks for nothing yet.
    ///
    /// # Errors
    /// When the controller's URL is unusable.
    pub fn new(options: StateOptions) -> Result<Self, ControllerError> {
        let authority = Arc::new(Authority::new(Controller::new(options)?));
        let runtime = Handle::try_current().map_err(|_| ControllerError::NoRuntime)?;
        Ok(Self(Arc::new(Shared {
            authority,
            runtime,
            entries: Mutex::default(),
        })))
    }

    /// A valid SVID: the one at hand, or else the outcome of the attempt under way.
    ///
    /// # Errors
    /// [`CertificateError`] with the reason of the last attempt. Attempts go on until
    /// [`Certificates::release`].
    pub async fn get(&self, identity: &SpiffeId) -> Result<Arc<Svid>, CertificateError> {
        let mut progress = self.follow(identity);
        let settled = progress
            .wait_for(|p| p.valid().is_some() || p.error.is_some())
            .await;
        let released = || CertificateError::Released(identity.clone());
        let settled = settled.map_err(|_| released())?;
        match (settled.valid(), &settled.error) {
            (Some(svid), _) => Ok(svid.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(released()),
        }
    }

    /// Forgets an identity that no pod of this node has any more.
    pub fn release(&self, identity: &SpiffeId) {
        if let Some(entry) = self.entries().remove(identity) {
            entry.task.abort();
            tracing::info!("certificate of {identity}: released");
        }
    }

    /// All identities that were asked for, by name. What tunnels agreed on is not known here.
    #[must_use]
    pub fn list(&self) -> Vec<CertificateStatus> {
        let describe = |(identity, entry): (&SpiffeId, &Entry)| {
            let progress = entry.progress.borrow();
            let svid = progress.svid.as_deref();
            CertificateStatus {
                identity: identity.clone(),
                valid: progress.valid().is_some(),
                chain: svid.map(chain::describe).unwrap_or_default(),
                key_exchanges: Vec::new(),
                last_error: progress.error.as_ref().map(ToString::to_string),
            }
        };
        let mut list: Vec<_> = self.entries().iter().map(describe).collect();
        list.sort_by(|a, b| a.identity.cmp(&b.identity));
        list
    }

    fn follow(&self, identity: &SpiffeId) -> watch::Receiver<Progress> {
        let mut entries = self.entries();
        if let Some(entry) = entries.get(identity) {
            return entry.progress.clone();
        }
        let (sender, progress) = watch::channel(Progress::default());
        let work = keep(self.0.authority.clone(), identity.clone(), sender);
        let task = self.0.runtime.spawn(work).abort_handle();
        entries.insert(
            identity.clone(),
            Entry {
                progress: progress.clone(),
                task,
            },
        );
        progress
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<SpiffeId, Entry>> {
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn rfc3339(at: SystemTime) -> String {
    // Only years of five digits cannot be written.
    OffsetDateTime::from(at)
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// Obtains and renews for ever.
async fn keep(authority: Arc<Authority>, identity: SpiffeId, progress: watch::Sender<Progress>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        match authority.issue(&identity).await {
            Ok(svid) => {
                let until = rfc3339(svid.not_after);
                tracing::info!("certificate of {identity}: valid until {until}");
                backoff.reset();
                let next = renewal(SystemTime::now(), svid.not_after, rand::random());
                progress.send_replace(Progress {
                    svid: Some(Arc::new(svid)),
                    error: None,
                });
                sleep_until(next).await;
            }
            Err(error) => {
                let pause = backoff.after_failure(rand::random());
                note_failure(&progress, error);
                let valid_until = progress.borrow().valid().map(|svid| svid.not_after);
                let now = SystemTime::now();
                tokio::time::sleep(capped(pause, now, valid_until)).await;
            }
        }
    }
}

/// Shows the failure; one log line when it is news.
fn note_failure(progress: &watch::Sender<Progress>, error: CertificateError) {
    let (news, going_on) = {
        let before = progress.borrow();
        (
            before.error.as_ref() != Some(&error),
            before.valid().is_some(),
        )
    };
    match (news, going_on) {
        (true, true) => tracing::warn!("{error}; trying again, the one at hand stays while valid"),
        (true, false) => tracing::warn!("{error}; trying again"),
        (false, _) => tracing::debug!("{error}"),
    }
    progress.send_modify(|progress| progress.error = Some(error));
}

async fn sleep_until(at: SystemTime) {
    let mut left = wait(SystemTime::now(), at, FIRST_PAUSE);
    loop {
        tokio::time::sleep(left.min(LOOK_AT_CLOCK)).await;
        let now = SystemTime::now();
        if now >= at {
            return;
        }
        left = wait(now, at, FIRST_PAUSE);
    }
}
