use super::*;
use crate::decode::DecodeError;

fn refused(policy: wire::Authorization) -> DecodeError {
    Policy::try_from(policy).unwrap_err()
}

#[test]
fn errors_name_the_policy_and_the_field() {
    let bad = |m: wire::Match| {
        let fine = wire::Match {
            destination_ports: vec![1],
            ..Default::default()
        };
        let clauses = vec![
            wire::Clause {
                matches: vec![fine.clone()],
            },
            wire::Clause {
                matches: vec![fine, m],
            },
        ];
        refused(policy(
            "x",
            wire::Action::Allow,
            vec![rule(vec![]), wire::Rule { clauses }],
        ))
    };
    let at = "rules[1].clauses[1].matches[1]";
    let error = bad(wire::Match {
        destination_ports: vec![80, 70000],
        ..Default::default()
    });
    assert_eq!(error.object, "policy \"shop/x\"");
    assert_eq!(error.field, format!("{at}.destination_ports[1]"));
    let error = bad(wire::Match {
        not_destination_ports: vec![65536],
        ..Default::default()
    });
    assert_eq!(error.field, format!("{at}.not_destination_ports[0]"));
    let short = wire::Address {
        address: vec![1, 2, 3],
        length: 8,
    };
    let error = bad(wire::Match {
        source_ips: vec![short],
        ..Default::default()
    });
    assert_eq!(error.field, format!("{at}.source_ips[0]"));
    let error = bad(wire::Match {
        not_destination_ips: vec![block("10.0.0.0", 33)],
        ..Default::default()
    });
    assert_eq!(error.field, format!("{at}.not_destination_ips[0]"));
    assert!(error.why.contains("33"), "{error}");

    let fine = || policy("x", wire::Action::Allow, vec![]);
    let fields = [
        (
            wire::Authorization {
                name: String::new(),
                ..fine()
            },
            "name",
        ),
        (
            wire::Authorization {
                namespace: String::new(),
                ..fine()
            },
            "namespace",
        ),
        (
            wire::Authorization {
                action: 7,
                ..fine()
            },
            "action",
        ),
        (
            wire::Authorization {
                scope: -1,
                ..fine()
            },
            "scope",
        ),
    ];
    for (policy, field) in fields {
        assert_eq!(refused(policy).field, field);
    }
}

#[test]
fn json_shows_the_verdict_in_words() {
    let json = serde_json::to_value(Verdict::deny_rule("shop/x".into(), 2)).unwrap();
    let expected = serde_json::json!({
        "action": "deny", "policy": "shop/x", "rule": 2, "reason": "deny_rule",
    });
    assert_eq!(json, expected);
    let m = wire::Match {
        source_ips: vec![block("10.0.0.0", 8)],
        ..Default::default()
    };
    let policy = Policy::try_from(policy("x", wire::Action::Deny, vec![rule(vec![m])])).unwrap();
    let json = serde_json::to_value(policy).unwrap();
    assert_eq!(
        json["rules"][0]["clauses"][0]["matches"][0]["source_ips"][0],
        "10.0.0.0/8"
    );
}

#[test]
fn an_audit_policy_is_a_deny_policy_without_rules_to_others() {
    let sent = policy("x", wire::Action::Allow, vec![wire::Rule::default()]).into_audit();
    assert_eq!((sent.action(), sent.rules.len()), (wire::Action::Deny, 0));
    let read = Policy::try_from(sent.clone()).unwrap();
    assert_eq!((read.action, read.rules.len()), (PolicyAction::Audit, 1));

    let mut contradicts = sent.clone();
    contradicts.rules.push(wire::Rule::default());
    assert_eq!(refused(contradicts).field, "extensions");
    let mut allows = sent.clone();
    allows.action = wire::Action::Allow.into();
    assert_eq!(refused(allows).field, "extensions");
    for config in [
        None,
        Some(prost_types::Any::default()),
        Some(prost_types::Any {
            value: vec![0xff],
            ..sent.extensions[0].config.clone().unwrap()
        }),
    ] {
        let mut broken = sent.clone();
        broken.extensions[0].config = config;
        assert_eq!(refused(broken).field, "extensions");
    }
}
