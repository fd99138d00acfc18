mod conditions;
mod decoding;
mod explaining;
mod plaintext;

use super::*;
use crate::proto::security as wire;
use crate::proto::workload::Extension;
use std::collections::BTreeMap;
use std::net::IpAddr;
use wire::string_match::MatchType;

fn exact(s: &str) -> wire::StringMatch {
    string(MatchType::Exact(s.into()))
}

fn presence() -> wire::StringMatch {
    string(MatchType::Presence(()))
}

fn string(kind: MatchType) -> wire::StringMatch {
    wire::StringMatch {
        match_type: Some(kind),
    }
}

fn block(address: &str, length: u32) -> wire::Address {
    let address = match address.parse().unwrap() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    wire::Address { address, length }
}

fn account(namespace: &str, service_account: &str) -> wire::ServiceAccountMatch {
    wire::ServiceAccountMatch {
        namespace: namespace.into(),
        service_account: service_account.into(),
    }
}

fn rule(matches: Vec<wire::Match>) -> wire::Rule {
    wire::Rule {
        clauses: vec![wire::Clause { matches }],
    }
}

/// A policy `shop/NAME` for workloads that name it.
fn policy(name: &str, action: wire::Action, rules: Vec<wire::Rule>) -> wire::Authorization {
    wire::Authorization {
        name: name.into(),
        namespace: "shop".into(),
        scope: wire::Scope::WorkloadSelector as i32,
        action: action as i32,
        rules,
        ..Default::default()
    }
}

fn scoped(scope: wire::Scope, namespace: &str, policy: wire::Authorization) -> wire::Authorization {
    wire::Authorization {
        scope: scope as i32,
        namespace: namespace.into(),
        ..policy
    }
}

/// A list that names no policy.
fn none() -> PolicyNames {
    PolicyNames::default()
}

fn id(s: &str) -> SpiffeId {
    s.parse().unwrap()
}

/// Judges a connection to a workload in `shop` that names all of `policies` that have selectors.
fn judge(
    policies: &[wire::Authorization],
    principal: Option<&SpiffeId>,
    source: &str,
    destination: &str,
) -> Verdict {
    let mut index = PolicyIndex::default();
    let mut named = Vec::<Arc<str>>::new();
    for policy in policies {
        let policy = Policy::try_from(policy.clone()).unwrap();
        if policy.scope == Scope::Selector {
            named.push(policy.key().clone());
        }
        index.upsert(policy);
    }
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    decide(
        &index.of("shop", &named.into_iter().collect()),
        &Connection {
            source,
            destination,
            principal,
        },
    )
}

/// Whether one match, in an ALLOW policy, holds for the connection; a DENY policy must agree.
fn holds(m: &wire::Match, principal: Option<&str>, source: &str, destination: &str) -> bool {
    let principal = principal.map(id);
    let allowed = [policy(
        "a",
        wire::Action::Allow,
        vec![rule(vec![m.clone()])],
    )];
    let denied = [policy("d", wire::Action::Deny, vec![rule(vec![m.clone()])])];
    let allow = judge(&allowed, principal.as_ref(), source, destination).is_allow();
    let deny = !judge(&denied, principal.as_ref(), source, destination).is_allow();
    assert_eq!(allow, deny, "ALLOW and DENY read {m:?} differently");
    allow
}

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const SOURCE: &str = "10.0.0.1:40000";
const DESTINATION: &str = "10.0.0.2:8080";

fn holds_for(m: &wire::Match, principal: Option<&str>) -> bool {
    holds(m, principal, SOURCE, DESTINATION)
}

#[test]
fn without_policies_all_is_allowed() {
    let verdict = judge(&[], None, SOURCE, DESTINATION);
    assert_eq!(verdict, Verdict::no_policy());
    assert!(verdict.is_allow());
}

#[test]
fn a_named_policy_that_is_missing_denies_even_when_others_allow() {
    let mut index = PolicyIndex::default();
    let allow_all = policy("all", wire::Action::Allow, vec![wire::Rule::default()]);
    index.upsert(Policy::try_from(allow_all).unwrap());
    let named = ["shop/all", "shop/gone"].into_iter().collect();
    let principal = id(WEB);
    let conn = Connection {
        source: SOURCE.parse().unwrap(),
        destination: DESTINATION.parse().unwrap(),
        principal: Some(&principal),
    };
    let verdict = decide(&index.of("shop", &named), &conn);
    assert_eq!(verdict, Verdict::missing_policy("shop/gone".into()));
    assert!(
        decide(
            &index.of("shop", &["shop/all"].into_iter().collect()),
            &conn
        )
        .is_allow()
    );
}

#[test]
fn an_unreadable_policy_denies_where_it_applies() {
    let conn = Connection {
        source: SOURCE.parse().unwrap(),
        destination: DESTINATION.parse().unwrap(),
        principal: None,
    };
    let mut index = PolicyIndex::default();
    index.upsert(Policy::unreadable("shop/x", None));
    let verdict = decide(&index.of("shop", &none()), &conn);
    assert_eq!(verdict, Verdict::missing_policy("shop/x".into()));
    assert!(decide(&index.of("other", &none()), &conn).is_allow());

    let stated = |scope: i32, dry_run| wire::Authorization {
        scope,
        dry_run,
        ..policy("x", wire::Action::Allow, vec![])
    };
    let mut set = |policy| {
        index.upsert(Policy::unreadable("shop/x", Some(&policy)));
        ["shop", "other"].map(|namespace| decide(&index.of(namespace, &none()), &conn).is_allow())
    };
    assert_eq!(
        set(stated(wire::Scope::Global as i32, false)),
        [false, false]
    );
    assert_eq!(
        set(stated(wire::Scope::Namespace as i32, false)),
        [false, true]
    );
    assert_eq!(
        set(stated(wire::Scope::WorkloadSelector as i32, false)),
        [true, true]
    );
    assert_eq!(set(stated(99, false)), [false, true]);
    assert_eq!(set(stated(wire::Scope::Global as i32, true)), [true, true]);
}

#[test]
fn deny_comes_before_allow_and_names_policy_and_rule() {
    let allow = policy("allow", wire::Action::Allow, vec![wire::Rule::default()]);
    let other = rule(vec![wire::Match {
        destination_ports: vec![1],
        ..Default::default()
    }]);
    let this = rule(vec![wire::Match {
        destination_ports: vec![8080],
        ..Default::default()
    }]);
    let deny = policy("deny", wire::Action::Deny, vec![other.clone(), this]);
    let verdict = judge(&[allow.clone(), deny], None, SOURCE, DESTINATION);
    assert_eq!(verdict, Verdict::deny_rule("shop/deny".into(), 1));
    let deny = policy("deny", wire::Action::Deny, vec![other]);
    let verdict = judge(&[allow, deny], None, SOURCE, DESTINATION);
    assert_eq!(verdict, Verdict::allow_rule("shop/allow".into(), 0));
}

#[test]
fn allow_policies_that_do_not_match_deny_and_the_first_is_named() {
    let rules = vec![rule(vec![wire::Match {
        destination_ports: vec![1],
        ..Default::default()
    }])];
    let b = policy("b", wire::Action::Allow, rules.clone());
    let c = policy("c", wire::Action::Allow, rules.clone());
    let a = scoped(
        wire::Scope::Namespace,
        "shop",
        policy("a", wire::Action::Allow, rules),
    );
    let verdict = judge(&[c.clone(), b, a], None, SOURCE, DESTINATION);
    assert_eq!(verdict, Verdict::no_allow_matched("shop/a".into()));
    let verdict = judge(&[c], None, SOURCE, DESTINATION);
    assert_eq!(verdict, Verdict::no_allow_matched("shop/c".into()));
}

#[test]
fn no_rules_match_nothing_and_no_clauses_match_everything() {
    let allow_nothing = policy("a", wire::Action::Allow, vec![]);
    let deny_nothing = policy("d", wire::Action::Deny, vec![]);
    assert!(!judge(&[allow_nothing], None, SOURCE, DESTINATION).is_allow());
    assert!(judge(&[deny_nothing], None, SOURCE, DESTINATION).is_allow());
    let allow_all = policy("a", wire::Action::Allow, vec![wire::Rule::default()]);
    let deny_all = policy("d", wire::Action::Deny, vec![wire::Rule::default()]);
    assert!(judge(&[allow_all], None, SOURCE, DESTINATION).is_allow());
    assert!(!judge(&[deny_all], None, SOURCE, DESTINATION).is_allow());
}

#[test]
fn what_is_not_understood_never_allows_and_always_denies() {
    let principal = id(WEB);
    let unknown = [
        wire::Match::default(),
        wire::Match {
            destination_ports: vec![8080],
            extensions: vec![Extension {
                name: "l7".into(),
                config: None,
            }],
            ..Default::default()
        },
        wire::Match {
            principals: vec![exact(&WEB[9..]), wire::StringMatch { match_type: None }],
            ..Default::default()
        },
        wire::Match {
            not_namespaces: vec![wire::StringMatch { match_type: None }],
            ..Default::default()
        },
        wire::Match {
            service_accounts: vec![account("shop", "")],
            ..Default::default()
        },
        wire::Match {
            not_service_accounts: vec![account("", "web")],
            ..Default::default()
        },
    ];
    let mut rules: Vec<_> = unknown.into_iter().map(|m| rule(vec![m])).collect();
    rules.push(rule(vec![]));
    for rule in rules {
        let said = format!("{rule:?}");
        let allow = policy("a", wire::Action::Allow, vec![rule.clone()]);
        let deny = policy("d", wire::Action::Deny, vec![rule]);
        for action in [allow, deny] {
            let verdict = judge(&[action], Some(&principal), SOURCE, DESTINATION);
            assert!(!verdict.is_allow(), "{said}");
        }
    }
}

#[test]
fn what_is_not_understood_is_only_one_alternative_and_only_one_clause() {
    let good = wire::Match {
        destination_ports: vec![8080],
        ..Default::default()
    };
    let bad = wire::Match {
        destination_ports: vec![1],
        ..Default::default()
    };
    let either = rule(vec![wire::Match::default(), good.clone()]);
    let allow = policy("a", wire::Action::Allow, vec![either]);
    assert!(judge(&[allow], None, SOURCE, DESTINATION).is_allow());
    let clause = |m| wire::Clause { matches: vec![m] };
    let both = wire::Rule {
        clauses: vec![clause(wire::Match::default()), clause(bad)],
    };
    let deny = policy("d", wire::Action::Deny, vec![both]);
    assert!(judge(&[deny], None, SOURCE, DESTINATION).is_allow());
    let both = wire::Rule {
        clauses: vec![clause(wire::Match::default()), clause(good)],
    };
    let deny = policy("d", wire::Action::Deny, vec![both.clone()]);
    assert!(!judge(&[deny], None, SOURCE, DESTINATION).is_allow());
    let allow = policy("a", wire::Action::Allow, vec![both]);
    assert!(!judge(&[allow], None, SOURCE, DESTINATION).is_allow());
}

#[test]
fn dry_run_never_changes_the_verdict() {
    let dry = |name, action| wire::Authorization {
        dry_run: true,
        ..policy(name, action, vec![wire::Rule::default()])
    };
    assert!(judge(&[dry("d", wire::Action::Deny)], None, SOURCE, DESTINATION).is_allow());
    let nothing = wire::Authorization {
        rules: vec![],
        ..dry("a", wire::Action::Allow)
    };
    let verdict = judge(&[nothing], None, SOURCE, DESTINATION);
    assert_eq!(verdict, Verdict::no_policy());
    let deny = policy("d", wire::Action::Deny, vec![wire::Rule::default()]);
    let verdict = judge(
        &[dry("a", wire::Action::Allow), deny],
        None,
        SOURCE,
        DESTINATION,
    );
    assert!(!verdict.is_allow());
    let closed = policy("b", wire::Action::Allow, vec![]);
    let verdict = judge(
        &[dry("a", wire::Action::Allow), closed],
        None,
        SOURCE,
        DESTINATION,
    );
    assert_eq!(verdict, Verdict::no_allow_matched("shop/b".into()));
}

#[test]
fn scopes_reach_whom_they_name() {
    let deny_all = |name| policy(name, wire::Action::Deny, vec![wire::Rule::default()]);
    let mut index = PolicyIndex::default();
    let conn = Connection {
        source: SOURCE.parse().unwrap(),
        destination: DESTINATION.parse().unwrap(),
        principal: None,
    };
    let add = |index: &mut PolicyIndex, p| index.upsert(Policy::try_from(p).unwrap());
    add(&mut index, deny_all("selected"));
    assert!(decide(&index.of("shop", &none()), &conn).is_allow());
    assert!(
        !decide(
            &index.of("other", &["shop/selected"].into_iter().collect()),
            &conn
        )
        .is_allow()
    );

    add(
        &mut index,
        scoped(wire::Scope::Namespace, "shop", deny_all("ns")),
    );
    assert_eq!(
        decide(&index.of("shop", &none()), &conn).policy.as_deref(),
        Some("shop/ns")
    );
    assert!(decide(&index.of("other", &none()), &conn).is_allow());

    add(
        &mut index,
        scoped(wire::Scope::Global, "istio-system", deny_all("all")),
    );
    assert!(!decide(&index.of("other", &none()), &conn).is_allow());

    // The same policies with other scopes: none is left behind in the old one.
    add(
        &mut index,
        scoped(
            wire::Scope::WorkloadSelector,
            "istio-system",
            deny_all("all"),
        ),
    );
    add(
        &mut index,
        scoped(wire::Scope::WorkloadSelector, "shop", deny_all("ns")),
    );
    assert!(decide(&index.of("other", &none()), &conn).is_allow());
    assert!(decide(&index.of("shop", &none()), &conn).is_allow());
    index.remove("shop/selected");
    assert_eq!(index.iter().count(), 2);
    assert!(index.get("shop/selected").is_none());
}

#[test]
fn the_first_policy_does_not_depend_on_the_order_of_arrival() {
    let deny = |name| {
        scoped(
            wire::Scope::Namespace,
            "shop",
            policy(name, wire::Action::Deny, vec![wire::Rule::default()]),
        )
    };
    for order in [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]] {
        let verdict = judge(&order.map(deny), None, SOURCE, DESTINATION);
        assert_eq!(verdict.policy.as_deref(), Some("shop/a"));
    }
}
