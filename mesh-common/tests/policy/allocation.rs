//! A decision does not allocate, whatever its verdict and however many policies there are.

use mesh_common::policy::{Connection, Reason, decide, report};
use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{
    Action, Address, Authorization, Clause, Match, Rule, Scope, StringMatch,
};
use mesh_common::proto::workload as wire;
use mesh_common::snapshot::{Snapshot, SnapshotBuilder};

const UID: &str = "Kubernetes//Pod/shop/web";

/// Policies of each scope, 300 in all, for the workload shop/web.
fn mesh() -> Snapshot {
    let mut builder = SnapshotBuilder::default();
    let mut listed = Vec::new();
    for n in 0..100 {
        for scope in [Scope::Global, Scope::Namespace, Scope::WorkloadSelector] {
            let account = |account: &str| StringMatch {
                match_type: Some(MatchType::Exact(format!(
                    "cluster.local/ns/shop/sa/{account}"
                ))),
            };
            let (action, account) = match n % 2 {
                0 => (Action::Allow, account(&format!("friend-{n}"))),
                _ => (Action::Deny, account(&format!("foe-{n}"))),
            };
            let m = Match {
                principals: vec![account],
                source_ips: vec![Address {
                    address: vec![10, 0, 0, 0],
                    length: 8,
                }],
                ..Match::default()
            };
            let policy = Authorization {
                name: format!("p{n}-{}", scope.as_str_name().to_lowercase()),
                namespace: "shop".into(),
                scope: scope.into(),
                action: action.into(),
                rules: vec![Rule {
                    clauses: vec![Clause { matches: vec![m] }],
                }],
                ..Authorization::default()
            };
            let key = format!("shop/{}", policy.name);
            builder.upsert_policy(&key, policy).unwrap();
            listed.extend((scope == Scope::WorkloadSelector).then_some(key));
        }
    }
    let workload = wire::Workload {
        uid: UID.into(),
        name: "web".into(),
        namespace: "shop".into(),
        authorization_policies: listed,
        ..wire::Workload::default()
    };
    let address = wire::Address {
        r#type: Some(wire::address::Type::Workload(workload)),
    };
    builder.upsert_address(UID, address).unwrap();
    builder.to_snapshot()
}

#[test]
fn a_decision_does_not_allocate() {
    let mesh = mesh();
    let workload = mesh.workload(UID).unwrap();
    for (account, source, reason) in [
        ("friend-42", "10.0.0.1:1", Reason::AllowRule),
        ("friend-42", "[fd00::1]:1", Reason::NoAllowMatched),
        ("foe-43", "[::ffff:10.0.0.1]:1", Reason::DenyRule),
        ("stranger", "10.0.0.1:1", Reason::NoAllowMatched),
    ] {
        let principal = format!("spiffe://cluster.local/ns/shop/sa/{account}")
            .parse()
            .unwrap();
        let conn = Connection {
            source: source.parse().unwrap(),
            destination: "10.0.0.2:80".parse().unwrap(),
            principal: Some(&principal),
        };
        let counted = allocation_counter::measure(|| {
            let policies = mesh.policies_for(workload);
            assert_eq!(decide(&policies, &conn).reason, reason);
            assert!(report(&policies, &conn).audit.is_empty());
        });
        assert_eq!(counted.count_total, 0, "{account} from {source}");
    }
    // The counter counts.
    assert!(allocation_counter::measure(|| drop(vec![workload.uid.clone()])).count_total > 0);
}
