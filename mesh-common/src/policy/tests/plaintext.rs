//! What is refused of connections in the clear, for the policies that people write.

use super::*;

/// Refused ports of a workload in `shop` that names all of `policies`.
fn refused(policies: &[wire::Authorization]) -> Refused {
    let mut index = PolicyIndex::default();
    let mut named = Vec::<Arc<str>>::new();
    for policy in policies {
        let policy = Policy::try_from(policy.clone()).unwrap();
        named.push(policy.key().clone());
        index.upsert(policy);
    }
    refused_in_clear(&index.of("shop", &named.into_iter().collect()))
}

/// What the controller makes of STRICT, at the ports that `ports` says.
fn strict(ports: wire::Match) -> wire::Authorization {
    let anonymous = wire::Match {
        not_principals: vec![presence()],
        ..ports
    };
    policy("strict", wire::Action::Deny, vec![rule(vec![anonymous])])
}

fn allow(matching: wire::Match) -> wire::Authorization {
    policy("callers", wire::Action::Allow, vec![rule(vec![matching])])
}

fn at(ports: &[u32]) -> wire::Match {
    wire::Match {
        destination_ports: ports.to_vec(),
        ..Default::default()
    }
}

fn from(blocks: &[wire::Address]) -> wire::Match {
    wire::Match {
        source_ips: blocks.to_vec(),
        ..Default::default()
    }
}

#[test]
fn strict_refuses_every_port() {
    let found = refused(&[strict(wire::Match::default())]);
    let verdict = Verdict::deny_rule("shop/strict".into(), 0);
    assert_eq!(found.others(), Some(&verdict));
    assert!(found.exceptions().is_empty());
    assert_eq!(refused(&[]), Refused::default());
}

#[test]
fn strict_at_a_port_and_permissive_at_a_port() {
    let verdict = Verdict::deny_rule("shop/strict".into(), 0);
    let found = refused(&[strict(at(&[8080, 9090]))]);
    assert_eq!(found.others(), None);
    let exceptions = BTreeMap::from([(8080, Some(&verdict)), (9090, Some(&verdict))]);
    assert_eq!(found.exceptions(), exceptions);

    let found = refused(&[strict(wire::Match {
        not_destination_ports: vec![8080],
        ..Default::default()
    })]);
    assert_eq!(found.others(), Some(&verdict));
    assert_eq!(found.exceptions(), BTreeMap::from([(8080, None)]));
}

#[test]
fn policies_that_only_allow_principals_refuse_those_without() {
    let principals = wire::Match {
        principals: vec![exact("cluster.local/ns/shop/sa/web")],
        ..at(&[8080])
    };
    let found = refused(&[allow(principals)]);
    let verdict = Verdict::no_allow_matched("shop/callers".into());
    assert_eq!(found.others(), Some(&verdict));
    assert!(found.exceptions().is_empty());
    // Whoever may come by an address keeps its port open to be judged.
    let blocks = wire::Match {
        destination_ports: vec![8080],
        ..from(&[block("10.0.0.0", 8)])
    };
    let found = refused(&[allow(blocks)]);
    assert_eq!(found.others(), Some(&verdict));
    assert_eq!(found.exceptions(), BTreeMap::from([(8080, None)]));
}

#[test]
fn a_deny_policy_by_address_refuses_only_when_it_covers_all() {
    let everywhere = [block("0.0.0.0", 0), block("::", 0)];
    let deny = |m| policy("deny", wire::Action::Deny, vec![rule(vec![m])]);
    assert!(refused(&[deny(from(&everywhere))]).others().is_some());
    assert_eq!(refused(&[deny(from(&everywhere[..1]))]).others(), None);
    let all_but = wire::Match {
        not_source_ips: vec![block("10.0.0.0", 8)],
        ..Default::default()
    };
    assert_eq!(refused(&[deny(all_but)]).others(), None);
}

#[test]
fn what_would_be_reported_is_not_refused() {
    let strict = strict(wire::Match::default());
    let audit = policy("audit", wire::Action::Allow, vec![rule(vec![at(&[8080])])]).into_audit();
    let found = refused(&[strict.clone(), audit]);
    assert!(found.others().is_some());
    assert_eq!(found.exceptions(), BTreeMap::from([(8080, None)]));

    let trial = wire::Authorization {
        dry_run: true,
        ..allow(wire::Match::default())
    };
    assert_eq!(refused(&[strict, trial]), Refused::default());
}

#[test]
fn what_is_missing_or_unreadable_refuses_all() {
    let mut index = PolicyIndex::default();
    let named = ["shop/gone"].into_iter().collect();
    let found = refused_in_clear(&index.of("shop", &named));
    let verdict = Verdict::missing_policy("shop/gone".into());
    assert_eq!(found.others(), Some(&verdict));
    index.upsert(Policy::unreadable("shop/x", None));
    let found = refused_in_clear(&index.of("shop", &none()));
    let verdict = Verdict::missing_policy("shop/x".into());
    assert_eq!(found.others(), Some(&verdict));
}

#[test]
fn the_first_policy_is_named_at_each_port() {
    let denying = |name, ports: &[u32]| {
        let rules = vec![rule(vec![at(ports)])];
        scoped(
            wire::Scope::Namespace,
            "shop",
            policy(name, wire::Action::Deny, rules),
        )
    };
    let found = refused(&[
        denying("b", &[80, 81]),
        denying("a", &[80]),
        strict(wire::Match::default()),
    ]);
    let by = |port| found.get(port).and_then(|v| v.policy.as_deref());
    assert_eq!(by(80), Some("shop/a"));
    assert_eq!(by(81), Some("shop/b"));
    assert_eq!(by(82), Some("shop/strict"));
    assert_eq!(found.exceptions().len(), 2);
}
