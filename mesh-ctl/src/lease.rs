//! Work that one replica does at a time: whoever holds a Kubernetes Lease.
//!
//! A holder that cannot renew stops believing that it holds the lease before any other replica may take
//! it. Nobody compares clocks: a lease is taken from another holder only after this process itself saw it
//! unchanged for its whole duration.

use std::time::Duration;

use k8s_openapi::api::coordination::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Another replica takes over this long after the last renewal that it saw.
const DURATION: Duration = Duration::from_secs(15);

/// A lease, not held yet.
pub struct Lease {
    api: Api<v1::Lease>,
    namespace: String,
    name: String,
    holder: String,
    duration: Duration,
}

/// The newest version of a lease of somebody else, and since when it has been that.
struct Seen {
    version: Option<String>,
    since: Instant,
}

enum Attempt {
    Held,
    /// By somebody else.
    Taken,
    /// Somebody changed it between the read and the write.
    Raced,
}

impl Lease {
    /// The lease `namespace/name`, for a process that no other shares the name `holder` with.
    pub fn new(client: Client, namespace: &str, name: &str, holder: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.into(),
            name: name.into(),
            holder: holder.into(),
            duration: DURATION,
        }
    }

    /// Changes how long a holder that is gone keeps others waiting; in whole seconds, at least one.
    #[must_use]
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.duration = Duration::from_secs(duration.as_secs().max(1));
        self
    }

    /// Tries to hold the lease until `stop`, and gives it back then. The value tells whether it is held;
    /// it is false again when the task ends.
    pub fn start(self, stop: CancellationToken) -> (watch::Receiver<bool>, JoinHandle<()>) {
        let (sender, held) = watch::channel(false);
        let task = tokio::spawn(async move {
            stop.run_until_cancelled(self.hold(&sender)).await;
            let gives_back = sender.send_replace(false);
            if gives_back && let Err(e) = self.give_back().await {
                tracing::info!(lease = %self, error = %e, "the lease was not given back; it runs out");
            }
        });
        (held, task)
    }

    async fn hold(&self, held: &watch::Sender<bool>) {
        let mut seen = None;
        // Others may take it `duration` after the last renewal; this process stops well before.
        let trust = self.duration * 2 / 3;
        let pause = self.duration / 8;
        let mut until = Instant::now();
        loop {
            let started = Instant::now();
            let deadline = if *held.borrow() {
                until
            } else {
                started + trust
            };
            match timeout_at(deadline, self.attempt(&mut seen)).await {
                Ok(Ok(Attempt::Held)) => {
                    until = started + trust;
                    self.note(held, true, "");
                }
                Ok(Ok(Attempt::Taken)) => self.note(held, false, "another replica has it"),
                Ok(Ok(Attempt::Raced)) => {}
                Ok(Err(e)) => {
                    tracing::warn!(lease = %self, error = %e, "cannot renew or take the lease; trying again");
                }
                Err(_) => tracing::warn!(lease = %self, "the API server does not answer"),
            }
            let mut next = Instant::now() + pause;
            if *held.borrow() {
                next = next.min(until);
            }
            sleep_until(next).await;
            if *held.borrow() && Instant::now() >= until {
                self.note(held, false, "it could not be renewed in time");
            }
        }
    }

    fn note(&self, held: &watch::Sender<bool>, now: bool, why: &str) {
        let changed = held.send_if_modified(|held| std::mem::replace(held, now) != now);
        match (changed, now) {
            (true, true) => tracing::info!(lease = %self, "this replica has the lease"),
            (true, false) => tracing::info!(lease = %self, "this replica lost the lease: {why}"),
            (false, _) => {}
        }
    }

    async fn attempt(&self, seen: &mut Option<Seen>) -> Result<Attempt, kube::Error> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let created = self
                .api
                .create(&PostParams::default(), &self.claim(None))
                .await;
            return outcome(created);
        };
        if self.others(&lease) {
            let now = Instant::now();
            let version = lease.metadata.resource_version.clone();
            let known = seen.take().filter(|seen| seen.version == version);
            let known = seen.insert(known.unwrap_or(Seen {
                version,
                since: now,
            }));
            if now < known.since + lasts(&lease).unwrap_or(self.duration) {
                return Ok(Attempt::Taken);
            }
        }
        *seen = None;
        let claim = self.claim(Some(lease));
        outcome(
            self.api
                .replace(&self.name, &PostParams::default(), &claim)
                .await,
        )
    }

    fn others(&self, lease: &v1::Lease) -> bool {
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref());
        holder.is_some_and(|holder| !holder.is_empty() && holder != self.holder)
    }

    /// The lease as this process writes it, on top of the one that was read.
    fn claim(&self, read: Option<v1::Lease>) -> v1::Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = read.unwrap_or_else(|| v1::Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.holder) {
            spec.holder_identity = Some(self.holder.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = i32::try_from(self.duration.as_secs()).ok();
        lease
    }

    async fn give_back(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        if self.others(&lease) {
            return Ok(());
        }
        lease.spec.get_or_insert_default().holder_identity = None;
        // The version that was read goes along: a lease that another has taken since stays theirs.
        let given = self
            .api
            .replace(&self.name, &PostParams::default(), &lease)
            .await;
        outcome(given).map(|_| ())
    }
}

impl std::fmt::Display for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

fn lasts(lease: &v1::Lease) -> Option<Duration> {
    let seconds = lease.spec.as_ref()?.lease_duration_seconds?;
    Some(Duration::from_secs(u64::try_from(seconds).ok()?))
}

fn outcome(written: Result<v1::Lease, kube::Error>) -> Result<Attempt, kube::Error> {
    match written {
        Ok(_) => Ok(Attempt::Held),
        // Written, created or deleted by another in between.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Attempt::Raced),
        Err(e) => Err(e),
    }
}

/// A name for this process that no other has: the pod's name (`POD_NAME`) and chance.
pub fn process_name() -> String {
    let pod = std::env::var("POD_NAME").unwrap_or_else(|_| "mesh-controller".into());
    format!("{pod}_{:016x}", rand::random::<u64>())
}
