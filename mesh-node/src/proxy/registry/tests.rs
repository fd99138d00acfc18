//! Which connections a change revokes.

use super::*;
use crate::drain::Drain;
use crate::pod::Pod;
use crate::proxy::authorize::authorize;
use crate::sys::Netns;
use mesh_common::policy::Reason;
use mesh_common::proto::security::{Action, Authorization, Clause, Match, Rule, StringMatch};
use mesh_common::proto::security::{Scope, string_match::MatchType};
use mesh_common::proto::workload::{Address, Workload, address::Type};
use mesh_common::snapshot::SnapshotBuilder;
use tokio::sync::watch;

/// The pod shop/web, and what the controller says of it.
pub(super) struct World {
    builder: SnapshotBuilder,
    pod: Arc<Pod>,
}

impl World {
    pub(super) fn new(policies: &[&str]) -> Self {
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
    pub(super) fn deny(mut self, account: &str) -> Self {
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

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.builder.to_snapshot())
    }

    pub(super) fn from(&self, account: &str) -> Facts {
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
