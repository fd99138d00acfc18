use super::*;

/// Callers of the shop on 8080 or 8081, and the namespace `ops` on 9090.
fn callers() -> wire::Authorization {
    let callers = wire::Match {
        principals: vec![exact("cluster.local/ns/shop/sa/web")],
        ..Default::default()
    };
    let ops = wire::Match {
        namespaces: vec![exact("ops")],
        not_source_ips: vec![block("10.9.0.0", 16)],
        ..Default::default()
    };
    let ports = |ports: &[u32]| wire::Match {
        destination_ports: ports.to_vec(),
        ..Default::default()
    };
    let clause = |m| wire::Clause { matches: vec![m] };
    let rule = |from, to| wire::Rule {
        clauses: vec![clause(from), clause(to)],
    };
    let rules = vec![
        rule(callers, ports(&[8080, 8081])),
        rule(ops, ports(&[9090])),
    ];
    policy("callers", wire::Action::Allow, rules)
}

fn explained(policies: &[wire::Authorization], principal: Option<&SpiffeId>) -> Explanation {
    let mut index = PolicyIndex::default();
    for policy in policies {
        index.upsert(Policy::try_from(policy.clone()).unwrap());
    }
    let names = index.iter().map(|policy| policy.key().clone()).collect();
    let conn = Connection {
        source: SOURCE.parse().unwrap(),
        destination: "10.0.0.2:9090".parse().unwrap(),
        principal,
    };
    explain(&index.of("shop", &names), &conn)
}

#[test]
fn a_denial_names_the_rule_that_came_nearest_and_what_it_lacked() {
    let principal = id(WEB);
    let explanation = explained(&[callers()], Some(&principal));
    let text = "\
DENY by shop/callers: no rule of the ALLOW policies matched
nearest: shop/callers rule 0, which failed on ports 8080, 8081: found 9090
ALLOW shop/callers (selector): not matched
  rule 0: not matched
    all of: matched
      + principals cluster.local/ns/shop/sa/web: found cluster.local/ns/shop/sa/web
    all of: not matched
      - ports 8080, 8081: found 9090
  rule 1: not matched
    all of: not matched
      - namespaces ops: found shop
      + notIpBlocks 10.9.0.0/16: found 10.0.0.1
    all of: matched
      + ports 9090: found 9090
";
    assert_eq!(explanation.to_string(), text);
}

#[test]
fn audits_and_dry_runs_are_in_the_text() {
    let audit = policy("audit", wire::Action::Allow, vec![wire::Rule::default()]).into_audit();
    let dry_run = wire::Authorization {
        dry_run: true,
        ..policy("try", wire::Action::Allow, vec![wire::Rule::default()])
    };
    let explanation = explained(&[callers(), audit, dry_run], None);
    let text = explanation.to_string();
    let lines: Vec<_> = text.lines().take(4).collect();
    assert_eq!(
        lines,
        [
            "DENY by shop/callers: no rule of the ALLOW policies matched",
            "nearest: shop/callers rule 1, which failed on namespaces ops: found no proven identity",
            "audit: shop/audit rule 0",
            "dry run: ALLOW by shop/try rule 0: a rule of an ALLOW policy matched",
        ]
    );
    assert!(text.contains("ALLOW shop/try (selector, dry run): matched"));
}

#[test]
fn the_json_form_has_the_verdict_the_reports_and_every_condition() {
    let principal = id(WEB);
    let json = serde_json::to_value(explained(&[callers()], Some(&principal))).unwrap();
    let ports = serde_json::json!({
        "field": "ports", "wanted": ["8080", "8081"], "found": "9090", "matched": false,
    });
    assert_eq!(json["verdict"]["reason"], "no_allow_matched");
    assert_eq!(json["audit"], serde_json::json!([]));
    assert_eq!(json["nearest"]["failed"], serde_json::json!([ports]));
    let rule = &json["policies"][0]["rules"][0];
    assert_eq!(
        rule["clauses"][1]["alternatives"][0]["conditions"][0],
        ports
    );
}
