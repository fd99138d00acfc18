//! Inbound connections that are alive, so that a policy change reaches them.
//!
//! A connection is registered *before* it is judged. A policy that changes in between is seen either
//! by the judgement or by [`Registry::follow`], never by neither. The tests run every interleaving of the two:
//! wherever one of them has touched what they share, it calls [`step`].

use mesh_common::policy::Verdict;
use mesh_common::snapshot::Snapshot;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, watch};

use super::facts::Facts;

/// Something that others see was done, or read. Nothing happens here but in tests.
#[cfg(not(test))]
pub(super) fn step() {}
#[cfg(test)]
pub(super) use interleavings::step;

#[derive(Debug)]
struct Entry {
    facts: Facts,
    /// What policy says now, once it no longer allows the connection. Boxed: of few connections it does.
    verdict: OnceLock<Box<Verdict>>,
    revoked: Notify,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
}

/// All live inbound connections of this agent. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Registry(Arc<Mutex<Live>>);

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
            verdict: OnceLock::new(),
            revoked: Notify::new(),
        });
        let mut live = self.lock();
        let id = live.next;
        live.next += 1;
        live.entries.insert(id, entry.clone());
        drop(live);
        step();
        Registration {
            registry: self.clone(),
            id,
            entry,
        }
    }

    /// Holds every state that is published against the connections that are alive.
    pub async fn follow(self, mut snapshot: watch::Receiver<Arc<Snapshot>>) {
        while snapshot.changed().await.is_ok() {
            self.recheck_newest(&mut snapshot);
        }
    }

    fn recheck_newest(&self, snapshot: &mut watch::Receiver<Arc<Snapshot>>) {
        let state = snapshot.borrow_and_update().clone();
        step();
        self.recheck(&state);
    }

    /// Judges every live connection by `snapshot` and revokes those that it denies.
    fn recheck(&self, snapshot: &Snapshot) {
        let entries: Vec<_> = self.lock().entries.values().cloned().collect();
        for entry in entries {
            step();
            let verdict = entry.facts.judge(snapshot);
            if !verdict.is_allow() && entry.verdict.set(Box::new(verdict)).is_ok() {
                step();
                entry.revoked.notify_waiters();
            }
        }
    }

    /// How many connections are alive now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether none is alive.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    pub(super) fn facts(&self) -> &Facts {
        &self.entry.facts
    }

    /// Completes when policy no longer allows the connection, with the verdict that says so.
    pub(super) async fn revoked(&self) -> Verdict {
        loop {
            // Listening before looking: a revocation in between is seen by one of the two.
            let revoked = self.entry.revoked.notified();
            step();
            if let Some(verdict) = self.entry.verdict.get() {
                return Verdict::clone(verdict);
            }
            step();
            revoked.await;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.lock().entries.remove(&self.id);
    }
}

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
