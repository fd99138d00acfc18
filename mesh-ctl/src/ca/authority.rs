//! The authority of a running controller: the last good state of what is kept in a directory or Secret.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::store::Store;
use super::{CaError, Material, Signer};
use crate::metrics::Metrics;

/// The current signer. It changes while the controller runs; each request uses one throughout.
pub struct Authority {
    current: watch::Sender<Arc<Signer>>,
}

impl Authority {
    /// Starts with `signer`.
    pub fn new(signer: Signer) -> Self {
        Self {
            current: watch::Sender::new(Arc::new(signer)),
        }
    }

    /// The signer as it is now.
    pub fn current(&self) -> Arc<Signer> {
        Arc::clone(&self.current.borrow())
    }

    /// Told of each new signer.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Signer>> {
        self.current.subscribe()
    }

    /// Puts another signer in force.
    pub fn replace(&self, signer: Signer) {
        self.current.send_replace(Arc::new(signer));
    }
}

/// Follows the place that an authority is kept at.
pub struct Follower {
    authority: Arc<Authority>,
    store: Store,
    material: Material,
    max_ttl: Duration,
    metrics: Metrics,
    /// The last complaint, which is not repeated.
    complaint: Option<String>,
}

impl Follower {
    /// Loads the authority, or creates a self-signed one when there is none. `max_ttl` is the longest
    /// life of a certificate.
    pub async fn open(
        store: Store,
        max_ttl: Duration,
        metrics: Metrics,
    ) -> Result<(Arc<Authority>, Self), CaError> {
        let material = store.read_or_create().await?;
        let signer = Signer::load(&material, store.place(), SystemTime::now())?;
        metrics.ca_loaded(true, &signer);
        let authority = Arc::new(Authority::new(signer));
        let follower = Self {
            authority: Arc::clone(&authority),
            store,
            material,
            max_ttl,
            metrics,
            complaint: None,
        };
        follower.check_rotation();
        Ok((authority, follower))
    }

    /// Puts each good state in force until `stop`. One that is unusable is reported once, and the
    /// last good one stays.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.store.changes();
        loop {
            let next = stop.run_until_cancelled(changes.next()).await;
            let Some(read) = next else { return };
            self.take(read);
        }
    }

    fn take(&mut self, read: Result<Material, CaError>) {
        let loaded = match read {
            Ok(material) if material == self.material && self.complaint.is_none() => return,
            Ok(material) => Signer::load(&material, self.store.place(), SystemTime::now())
                .map(|signer| (material, signer)),
            Err(e) => Err(e),
        };
        match loaded {
            Ok((material, signer)) => {
                if self.complaint.take().is_some() {
                    tracing::info!(place = %self.store.place(), "the certificate authority is usable again");
                }
                self.metrics.ca_loaded(true, &signer);
                if material != self.material {
                    tracing::info!(
                        place = %self.store.place(), roots = signer.roots.len(),
                        until = %humantime::format_rfc3339_seconds(signer.not_after),
                        "the certificate authority changed"
                    );
                    self.material = material;
                    self.authority.replace(signer);
                    self.check_rotation();
                }
            }
            Err(e) => {
                let line = e.to_string();
                if self.complaint.as_ref() != Some(&line) {
                    self.metrics.ca_loaded(false, &self.authority.current());
                    tracing::error!("{line}; the last good certificate authority stays in force");
                    self.complaint = Some(line);
                }
            }
        }
    }

    /// The steps of a rotation are timed by the longest life of a certificate.
    fn check_rotation(&self) {
        let signer = self.authority.current();
        if let Some(rotation) = &signer.rotation
            && self.max_ttl > rotation.ttl()
        {
            tracing::error!(
                "{}: the rotation under way is timed for certificates of at most {}, but --cert-ttl is {}; \
                 give `ca activate` and `ca finish` the same --cert-ttl as the controllers",
                self.store.place(),
                humantime::format_duration(rotation.ttl()),
                humantime::format_duration(self.max_ttl),
            );
        }
    }
}
