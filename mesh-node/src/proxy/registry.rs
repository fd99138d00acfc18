//! Inbound connections that are alive, so that a policy change reaches them.
//!
//! A connection is registered *before* it is judged. A policy that changes in between is seen either
//! by the judgement or by [`Registry::recheck`], never by neither.

use mesh_common::identity::SpiffeId;
use mesh_common::policy::{self, Connection, Verdict};
use mesh_common::snapshot::Snapshot;
use serde::Serialize;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pod::Pod;

/// The facts that policy judges, fixed for the life of the connection.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) pod: Arc<Pod>,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) principal: Option<SpiffeId>,
}

impl Facts {
    /// What policy says of this connection under `snapshot`. A pod that is unknown there is denied.
    pub(super) fn judge(&self, snapshot: &Snapshot) -> Verdict {
        let Some(workload) = self.pod.workload(snapshot) else {
            return Verdict::unknown_destination();
        };
        let connection = Connection {
            source: self.source,
            destination: self.destination,
            principal: self.principal.as_ref(),
        };
        policy::decide(&snapshot.policies_for(&workload), &connection)
    }
}

#[derive(Debug)]
struct Entry {
    facts: Facts,
    since: Instant,
    revoked: CancellationToken,
    verdict: OnceLock<Verdict>,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
}

/// All live inbound connections of this agent. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<Live>>);

/// One connection, for the operator.
#[derive(Debug, Serialize)]
pub struct LiveConnection {
    pod: String,
    source: SocketAddr,
    destination: SocketAddr,
    principal: Option<SpiffeId>,
    age_seconds: u64,
}

/// A registered connection; leaves the registry when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Registry,
    id: u64,
    entry: Arc<Entry>,
}

impl Registry {
    pub(super) fn register(&self, facts: Facts) -> Registration {
        let entry = Arc::new(Entry {
            facts,
            since: Instant::now(),
            revoked: CancellationToken::new(),
            verdict: OnceLock::new(),
        });
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = live.next;
        live.next += 1;
        live.entries.insert(id, entry.clone());
        Registration { registry: self.clone(), id, entry }
    }

    /// Judges every live connection by `snapshot` and revokes those that it denies.
    pub fn recheck(&self, snapshot: &Snapshot) {
        let entries: Vec<_> = {
            let live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            live.entries.values().cloned().collect()
        };
        for entry in entries {
            let verdict = entry.facts.judge(snapshot);
            if !verdict.is_allow() && entry.verdict.set(verdict).is_ok() {
                entry.revoked.cancel();
            }
        }
    }

    /// The connections alive now.
    #[must_use]
    pub fn list(&self) -> Vec<LiveConnection> {
        let live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let describe = |entry: &Arc<Entry>| LiveConnection {
            pod: entry.facts.pod.to_string(),
            source: entry.facts.source,
            destination: entry.facts.destination,
            principal: entry.facts.principal.clone(),
            age_seconds: entry.since.elapsed().as_secs(),
        };
        live.entries.values().map(describe).collect()
    }

    /// How many connections are alive now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entries.len()
    }

    /// Whether none is alive.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Registration {
    pub(super) fn facts(&self) -> &Facts {
        &self.entry.facts
    }

    /// Completes when policy no longer allows the connection, with the verdict that says so.
    pub(super) async fn revoked(&self) -> Verdict {
        self.entry.revoked.cancelled().await;
        self.entry.verdict.get().cloned().unwrap_or_else(Verdict::unknown_destination)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut live = self.registry.0.lock().unwrap_or_else(PoisonError::into_inner);
        live.entries.remove(&self.id);
    }
}
