use super::*;

#[test]
fn strict_is_a_deny_of_connections_without_a_principal() {
    let m = wire::Match {
        not_principals: vec![presence()],
        ..Default::default()
    };
    let strict = policy("strict", wire::Action::Deny, vec![rule(vec![m])]);
    let principal = id(WEB);
    let plaintext = judge(std::slice::from_ref(&strict), None, SOURCE, DESTINATION);
    assert_eq!(plaintext, Verdict::deny_rule("shop/strict".into(), 0));
    assert!(judge(&[strict], Some(&principal), SOURCE, DESTINATION).is_allow());
}

#[test]
fn strict_can_spare_a_port() {
    let m = wire::Match {
        not_principals: vec![presence()],
        not_destination_ports: vec![9090],
        ..Default::default()
    };
    assert!(holds(&m, None, SOURCE, "10.0.0.2:8080"));
    assert!(!holds(&m, None, SOURCE, "10.0.0.2:9090"));
    assert!(!holds(&m, Some(WEB), SOURCE, "10.0.0.2:8080"));
}

#[test]
fn principals_are_matched_without_the_scheme() {
    let of = |kind| wire::Match {
        principals: vec![string(kind)],
        ..Default::default()
    };
    let cases = [
        (
            MatchType::Exact("cluster.local/ns/shop/sa/web".into()),
            true,
        ),
        (
            MatchType::Exact("spiffe://cluster.local/ns/shop/sa/web".into()),
            true,
        ),
        (
            MatchType::Exact("cluster.local/ns/shop/sa/we".into()),
            false,
        ),
        (
            MatchType::Exact("CLUSTER.LOCAL/ns/shop/sa/web".into()),
            false,
        ),
        (MatchType::Prefix("cluster.local/ns/shop/".into()), true),
        (
            MatchType::Prefix("spiffe://cluster.local/ns/shop/".into()),
            true,
        ),
        (MatchType::Prefix("ns/shop".into()), false),
        (MatchType::Suffix("/ns/shop/sa/web".into()), true),
        (MatchType::Suffix("/sa/web/".into()), false),
        (MatchType::Presence(()), true),
    ];
    for (kind, expected) in cases {
        let m = of(kind);
        assert_eq!(holds_for(&m, Some(WEB)), expected, "{m:?}");
        assert!(!holds_for(&m, None), "{m:?} without a principal");
    }
    assert!(!holds_for(&of(MatchType::Prefix(String::new())), None));
    assert!(!holds_for(&of(MatchType::Suffix(String::new())), None));
    assert!(!holds_for(&of(MatchType::Exact(String::new())), None));
}

#[test]
fn a_namespace_is_the_principals_whatever_the_address_says() {
    let m = wire::Match {
        namespaces: vec![exact("shop")],
        ..Default::default()
    };
    assert!(holds_for(&m, Some(WEB)));
    assert!(!holds_for(
        &m,
        Some("spiffe://cluster.local/ns/other/sa/web")
    ));
    assert!(!holds_for(&m, None));
    let m = wire::Match {
        not_namespaces: vec![exact("shop")],
        ..Default::default()
    };
    assert!(!holds_for(&m, Some(WEB)));
    assert!(holds_for(
        &m,
        Some("spiffe://cluster.local/ns/other/sa/web")
    ));
    assert!(holds_for(&m, None));
}

#[test]
fn service_accounts_need_both_parts() {
    let m = wire::Match {
        service_accounts: vec![account("shop", "web")],
        ..Default::default()
    };
    assert!(holds_for(&m, Some(WEB)));
    assert!(holds_for(&m, Some("spiffe://other.domain/ns/shop/sa/web")));
    assert!(!holds_for(
        &m,
        Some("spiffe://cluster.local/ns/shop/sa/api")
    ));
    assert!(!holds_for(
        &m,
        Some("spiffe://cluster.local/ns/other/sa/web")
    ));
    assert!(!holds_for(&m, None));
    let m = wire::Match {
        not_service_accounts: vec![account("shop", "web")],
        ..Default::default()
    };
    assert!(!holds_for(&m, Some(WEB)));
    assert!(holds_for(&m, None));
}

#[test]
fn within_a_field_any_entry_is_enough_and_no_excluded_one_may_match() {
    let m = wire::Match {
        namespaces: vec![exact("other"), exact("shop")],
        not_principals: vec![exact("x"), exact(&WEB[9..])],
        ..Default::default()
    };
    assert!(!holds_for(&m, Some(WEB)));
    assert!(holds_for(&m, Some("spiffe://cluster.local/ns/shop/sa/api")));
    let m = wire::Match {
        namespaces: vec![exact("shop")],
        destination_ports: vec![8080],
        ..Default::default()
    };
    assert!(holds(&m, Some(WEB), SOURCE, "10.0.0.2:8080"));
    assert!(!holds(&m, Some(WEB), SOURCE, "10.0.0.2:8081"));
}

#[test]
fn address_blocks_of_both_families_and_mapped() {
    let from = |blocks| wire::Match {
        source_ips: blocks,
        ..Default::default()
    };
    let v4 = from(vec![block("10.1.0.0", 16)]);
    assert!(holds(&v4, None, "10.1.255.255:1", DESTINATION));
    assert!(!holds(&v4, None, "10.2.0.0:1", DESTINATION));
    assert!(holds(&v4, None, "[::ffff:10.1.2.3]:1", DESTINATION));
    let mapped = from(vec![block("::ffff:10.1.0.0", 112)]);
    assert!(holds(&mapped, None, "10.1.2.3:1", DESTINATION));
    assert!(!holds(&mapped, None, "10.2.2.3:1", DESTINATION));
    let v6 = from(vec![block("fd00:1::", 32)]);
    assert!(holds(&v6, None, "[fd00:1::7]:1", DESTINATION));
    assert!(!holds(&v6, None, "[fd00:2::7]:1", DESTINATION));
    let all_v4 = from(vec![block("0.0.0.0", 0)]);
    assert!(holds(&all_v4, None, SOURCE, DESTINATION));
    assert!(!holds(&all_v4, None, "[fd00::1]:1", DESTINATION));
    let single = from(vec![block("10.1.0.5", 32), block("fd00::5", 128)]);
    assert!(holds(&single, None, "[fd00::5]:1", DESTINATION));
    assert!(!holds(&single, None, "10.1.0.6:1", DESTINATION));
    let not = wire::Match {
        not_source_ips: vec![block("10.0.0.0", 8)],
        ..Default::default()
    };
    assert!(!holds(&not, None, SOURCE, DESTINATION));
    assert!(holds(&not, None, "11.0.0.1:1", DESTINATION));
}

#[test]
fn destinations_and_ports_are_the_applications() {
    let m = wire::Match {
        destination_ips: vec![block("10.0.0.2", 32)],
        ..Default::default()
    };
    assert!(holds(&m, None, "10.9.9.9:1", "10.0.0.2:1"));
    assert!(!holds(&m, None, "10.0.0.2:1", "10.0.0.3:1"));
    let m = wire::Match {
        not_destination_ips: vec![block("fd00::", 8)],
        ..Default::default()
    };
    assert!(!holds(&m, None, "[fd00::1]:1", "[fd00::2]:1"));
    assert!(holds(&m, None, SOURCE, DESTINATION));
    let m = wire::Match {
        destination_ports: vec![80, 443],
        ..Default::default()
    };
    assert!(holds(&m, None, "10.0.0.1:1", "10.0.0.2:443"));
    assert!(!holds(&m, None, "10.0.0.1:443", "10.0.0.2:8443"));
    let m = wire::Match {
        not_destination_ports: vec![80],
        ..Default::default()
    };
    assert!(holds(&m, None, "10.0.0.1:80", "10.0.0.2:443"));
    assert!(!holds(&m, None, "10.0.0.1:1", "10.0.0.2:80"));
}
