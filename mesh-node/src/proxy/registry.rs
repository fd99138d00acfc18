//! Inbound connections that are alive, so that a policy change reaches them.
//!
//! A connection is registered *before* it is judged. A policy that changes in between is seen either
//! by the judgement or by [`Registry::recheck`], never by neither.

use mesh_common::identity::SpiffeId;
use mesh_common::policy::{self, Connection, Reports, Verdict};
use mesh_common::snapshot::Snapshot;
use serde::Serialize;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

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
        match self.pod.workload(snapshot) {
            Some(workload) => policy::decide(&snapshot.policies_for(&workload), &self.connection()),
            None => Verdict::unknown_destination(),
        }
    }

    /// What policies say of it that enforce nothing.
    pub(super) fn report(&self, snapshot: &Snapshot) -> Reports {
        let workload = self.pod.workload(snapshot);
        workload.map_or_else(Reports::default, |workload| {
            policy::report(&snapshot.policies_for(&workload), &self.connection())
        })
    }

    fn connection(&self) -> Connection<'_> {
        Connection {
            source: self.source,
            destination: self.destination,
            principal: self.principal.as_ref(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    facts: Facts,
    since: Instant,
    /// What policy says now, once it no longer allows the connection.
    verdict: OnceLock<Verdict>,
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
            verdict: OnceLock::new(),
            revoked: Notify::new(),
        });
        let mut live = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = live.next;
        live.next += 1;
        live.entries.insert(id, entry.clone());
        Registration {
            registry: self.clone(),
            id,
            entry,
        }
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
                entry.revoked.notify_waiters();
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
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entries
            .len()
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
        loop {
            // Listening before looking: a revocation in between is seen by one of the two.
            let revoked = self.entry.revoked.notified();
            if let Some(verdict) = self.entry.verdict.get() {
                return verdict.clone();
            }
            revoked.await;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut live = self
            .registry
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        live.entries.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Drain;
    use crate::proxy::authorize::authorize;
    use crate::sys::Netns;
    use mesh_common::policy::Reason;
    use mesh_common::proto::security::{Action, Authorization, Clause, Match, Rule, StringMatch};
    use mesh_common::proto::security::{Scope, string_match::MatchType};
    use mesh_common::proto::workload::{Address, Workload, address::Type};
    use mesh_common::snapshot::SnapshotBuilder;
    use tokio::sync::watch;

    /// The pod shop/web, and what the controller says of it.
    struct World {
        builder: SnapshotBuilder,
        pod: Arc<Pod>,
    }

    impl World {
        fn new(policies: &[&str]) -> Self {
            let mut builder = SnapshotBuilder::default();
            let workload = Workload {
                uid: "Kubernetes//Pod/shop/web".into(),
                name: "web".into(),
                namespace: "shop".into(),
                addresses: vec![vec![10, 0, 0, 1]],
                authorization_policies: policies.iter().map(ToString::to_string).collect(),
                ..Workload::default()
            };
            let uid = workload.uid.clone();
            let address = Address {
                r#type: Some(Type::Workload(workload)),
            };
            builder.upsert_address(&uid, address).unwrap();
            let pod = Pod {
                namespace: "shop".into(),
                name: "web".into(),
                uid: String::new(),
                netns: Netns::open("/proc/self/ns/net").unwrap(),
                netns_path: "/proc/self/ns/net".into(),
                addresses: vec!["10.0.0.1".parse().unwrap()],
                drain: Drain::new(),
            };
            Self {
                builder,
                pod: Arc::new(pod),
            }
        }

        /// Denies the service account `account`.
        fn deny(mut self, account: &str) -> Self {
            let principal = format!("cluster.local/ns/shop/sa/{account}");
            let exact = StringMatch {
                match_type: Some(MatchType::Exact(principal)),
            };
            let matches = vec![Match {
                principals: vec![exact],
                ..Match::default()
            }];
            let policy = Authorization {
                name: "no".into(),
                namespace: "shop".into(),
                scope: Scope::Namespace.into(),
                action: Action::Deny.into(),
                rules: vec![Rule {
                    clauses: vec![Clause { matches }],
                }],
                ..Authorization::default()
            };
            self.builder.upsert_policy("shop/no", policy).unwrap();
            self
        }

        fn snapshot(&self) -> Arc<Snapshot> {
            Arc::new(self.builder.to_snapshot())
        }

        fn from(&self, account: &str) -> Facts {
            Facts {
                pod: self.pod.clone(),
                source: "10.0.0.2:4000".parse().unwrap(),
                destination: "10.0.0.1:80".parse().unwrap(),
                principal: format!("spiffe://cluster.local/ns/shop/sa/{account}")
                    .parse()
                    .ok(),
            }
        }
    }

    #[test]
    fn a_policy_that_is_named_but_unknown_denies() {
        let world = World::new(&["shop/not-here"]);
        let verdict = world.from("alice").judge(&world.snapshot());
        assert!(!verdict.is_allow());
        assert_eq!(verdict.reason, Reason::MissingPolicy);
        assert_eq!(verdict.policy.as_deref(), Some("shop/not-here"));
    }

    #[test]
    fn an_unknown_pod_is_denied() {
        let verdict = World::new(&[]).from("alice").judge(&Snapshot::default());
        assert_eq!(
            (verdict.is_allow(), verdict.reason),
            (false, Reason::UnknownDestination)
        );
    }

    #[tokio::test]
    async fn a_change_revokes_those_it_denies_and_no_others() {
        let (registry, world) = (Registry::default(), World::new(&[]));
        let (_publish, state) = watch::channel(world.snapshot());
        let alice = authorize(&registry, &state, world.from("alice")).unwrap();
        let bob = authorize(&registry, &state, world.from("bob")).unwrap();
        registry.recheck(&World::new(&[]).deny("bob").snapshot());
        assert_eq!(bob.revoked().await.policy.as_deref(), Some("shop/no"));
        assert!(futures::FutureExt::now_or_never(alice.revoked()).is_none());
        drop(bob);
        assert_eq!(registry.len(), 1);
        drop(alice);
        assert!(registry.is_empty());
    }

    /// Every interleaving of a change (publish, then recheck) with a new connection (register, then
    /// judge): the connection is denied, or it is revoked.
    #[tokio::test]
    async fn no_connection_slips_through_a_change() {
        let world = World::new(&[]);
        let before = world.snapshot();
        let after = World::new(&[]).deny("bob").snapshot();
        // The place of `register` and of `judge` among: 0 publish 1 recheck 2.
        for (register, judge) in [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)] {
            let registry = Registry::default();
            let mut published = before.clone();
            let mut connection = None;
            let mut denied = false;
            for step in 0..=2 {
                if step == register {
                    connection = Some(registry.register(world.from("bob")));
                }
                if step == judge
                    && let Some(connection) = &connection
                {
                    denied = !connection.facts().judge(&published).is_allow();
                }
                match step {
                    0 => published = after.clone(),
                    1 => registry.recheck(&published),
                    _ => {}
                }
            }
            let connection = connection.unwrap();
            let revoked = futures::FutureExt::now_or_never(connection.revoked()).is_some();
            assert!(
                denied || revoked,
                "register at {register}, judge at {judge}"
            );
        }
    }
}
