use crate::enroll::Verdict;
use crate::state::delta::{ADDRESS, AUTHORIZATION, Delta, ENROLMENT};
use mesh_common::proto::security::{Authorization, Scope};
use mesh_common::proto::weft::enrolment::{self, Enrolment};
use mesh_common::proto::workload::{Address, Workload, address::Type};
use mesh_common::proto::xds::{DeltaDiscoveryResponse, Resource};
use prost::Message;

pub(super) const UID: &str = "c//Pod/shop/web";

pub(super) fn resource(type_url: &str, name: &str, version: &str, value: Vec<u8>) -> Resource {
    Resource {
        name: name.into(),
        version: version.into(),
        resource: Some(prost_types::Any {
            type_url: type_url.into(),
            value,
        }),
        ..Default::default()
    }
}

pub(super) fn workload(name: &str, version: &str, address: &[u8]) -> Resource {
    let uid = format!("c//Pod/shop/{name}");
    let workload = Workload {
        uid: uid.clone(),
        name: name.into(),
        namespace: "shop".into(),
        addresses: vec![address.to_vec()],
        ..Default::default()
    };
    let address = Address {
        r#type: Some(Type::Workload(workload)),
    };
    resource(ADDRESS, &uid, version, address.encode_to_vec())
}

pub(super) fn policy(name: &str, version: &str, action: i32) -> Resource {
    let policy = Authorization {
        name: name.into(),
        namespace: "shop".into(),
        scope: Scope::Namespace as i32,
        action,
        ..Default::default()
    };
    let name = format!("shop/{name}");
    resource(AUTHORIZATION, &name, version, policy.encode_to_vec())
}

pub(super) fn response(
    type_url: &str,
    nonce: &str,
    resources: Vec<Resource>,
    removed: &[&str],
) -> DeltaDiscoveryResponse {
    DeltaDiscoveryResponse {
        type_url: type_url.into(),
        nonce: nonce.into(),
        resources,
        removed_resources: removed.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

#[test]
fn nothing_is_published_before_both_types_were_answered() {
    for order in [[ADDRESS, AUTHORIZATION], [AUTHORIZATION, ADDRESS]] {
        let mut delta = Delta::default();
        let first = delta.apply(response(order[0], "1", vec![], &[]));
        assert!(first.snapshot.is_none());
        assert!(
            delta
                .apply(response(order[0], "2", vec![], &[]))
                .snapshot
                .is_none()
        );
        assert!(
            delta
                .apply(response(order[1], "3", vec![], &[]))
                .snapshot
                .is_some()
        );
        assert!(
            delta
                .apply(response(order[0], "4", vec![], &[]))
                .snapshot
                .is_some()
        );
    }
}

#[test]
fn a_good_response_is_acknowledged() {
    let mut delta = Delta::default();
    let outcome = delta.apply(response(
        ADDRESS,
        "n1",
        vec![workload("web", "1", &[10, 0, 0, 1])],
        &[],
    ));
    assert!(outcome.refused.is_empty());
    let reply = outcome.reply;
    assert_eq!(
        (reply.type_url.as_str(), reply.response_nonce.as_str()),
        (ADDRESS, "n1")
    );
    assert!(reply.error_detail.is_none() && reply.resource_names_subscribe.is_empty());
}

#[test]
fn one_bad_resource_is_refused_by_name_and_the_others_are_applied() {
    let mut delta = Delta::default();
    delta.apply(response(AUTHORIZATION, "n0", vec![], &[]));
    delta.apply(response(
        ADDRESS,
        "n1",
        vec![workload("web", "1", &[10, 0, 0, 1])],
        &[],
    ));
    let resources = vec![
        workload("web", "2", &[1, 2, 3]),
        workload("api", "1", &[10, 0, 0, 2]),
    ];
    let outcome = delta.apply(response(ADDRESS, "n2", resources, &[]));
    let error = outcome.reply.error_detail.unwrap();
    assert_eq!(
        (outcome.reply.response_nonce.as_str(), error.code),
        ("n2", 3)
    );
    assert!(
        error.message.contains(UID) && error.message.contains("addresses[0]"),
        "{error:?}"
    );
    assert!(!error.message.contains("api"), "{error:?}");
    let snapshot = outcome.snapshot.unwrap();
    assert!(snapshot.workload("c//Pod/shop/api").is_some());
    let kept = snapshot.workload(UID).unwrap();
    assert_eq!(
        kept.addresses,
        ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]
    );
    // What is held is version 1, whatever was offered since.
    assert_eq!(
        delta.first_requests()[0].initial_resource_versions[UID],
        "1"
    );
}

#[test]
fn a_policy_that_never_was_good_is_stated_so_that_its_removal_is_learnt() {
    let mut delta = Delta::default();
    delta.apply(response(ADDRESS, "n0", vec![], &[]));
    let garbage = resource(AUTHORIZATION, "shop/q", "1", vec![0xff; 9]);
    let bad = vec![policy("p", "1", 77), garbage];
    let outcome = delta.apply(response(AUTHORIZATION, "n1", bad, &[]));
    assert_eq!(outcome.refused.len(), 2);
    let message = outcome.reply.error_detail.unwrap().message;
    assert!(
        message.contains("shop/p") && message.contains("action"),
        "{message}"
    );
    assert!(message.contains("shop/q"), "{message}");
    let unreadable: Vec<_> = outcome
        .snapshot
        .unwrap()
        .policies()
        .map(|p| p.unreadable)
        .collect();
    assert_eq!(unreadable, [true, true]);
    let stated = &delta.first_requests()[1].initial_resource_versions;
    assert_eq!(
        (stated["shop/p"].as_str(), stated["shop/q"].as_str()),
        ("", "")
    );
    let removed = ["shop/p", "shop/q"];
    let outcome = delta.apply(response(AUTHORIZATION, "n2", vec![], &removed));
    assert_eq!(outcome.snapshot.unwrap().policies().count(), 0);
    assert!(
        delta.first_requests()[1]
            .initial_resource_versions
            .is_empty()
    );
}

#[test]
fn removed_resources_are_gone_and_no_longer_stated() {
    let mut delta = Delta::default();
    delta.apply(response(
        AUTHORIZATION,
        "n0",
        vec![policy("p", "7", 0)],
        &[],
    ));
    delta.apply(response(
        ADDRESS,
        "n1",
        vec![workload("web", "1", &[10, 0, 0, 1])],
        &[],
    ));
    let [addresses, policies] = delta.first_requests().try_into().unwrap();
    assert_eq!(
        (addresses.type_url.as_str(), policies.type_url.as_str()),
        (ADDRESS, AUTHORIZATION)
    );
    assert_eq!(addresses.initial_resource_versions[UID], "1");
    assert_eq!(policies.initial_resource_versions["shop/p"], "7");
    let removed = [UID, "never/there"];
    let outcome = delta.apply(response(ADDRESS, "n2", vec![], &removed));
    assert_eq!(outcome.snapshot.unwrap().workloads().count(), 0);
    assert!(
        delta.first_requests()[0]
            .initial_resource_versions
            .is_empty()
    );
}

#[test]
fn malformed_resources_are_refused() {
    let mut delta = Delta::default();
    let nameless = Resource {
        name: String::new(),
        ..workload("web", "1", &[10, 0, 0, 1])
    };
    let empty = Resource {
        resource: None,
        ..workload("web", "1", &[10, 0, 0, 1])
    };
    let other = resource("type.googleapis.com/other", UID, "1", vec![]);
    let garbage = resource(ADDRESS, UID, "1", vec![0xff; 9]);
    for bad in [nameless, empty, other, garbage] {
        let outcome = delta.apply(response(ADDRESS, "n", vec![bad.clone()], &[]));
        assert_eq!(outcome.refused.len(), 1, "{bad:?}");
        assert!(
            outcome.refused[0].contains(&bad.name),
            "{:?}",
            outcome.refused
        );
    }
}

#[test]
fn a_type_that_was_not_asked_for_is_refused() {
    let mut delta = Delta::default();
    let outcome = delta.apply(response("type.googleapis.com/other", "n", vec![], &["x"]));
    assert_eq!(outcome.reply.response_nonce, "n");
    assert!(outcome.reply.error_detail.is_some());
}

#[test]
fn a_refusal_stays_short_however_much_is_wrong() {
    let mut delta = Delta::default();
    let bad = (0..1000)
        .map(|i| workload(&format!("w{i}"), "1", &[1]))
        .collect();
    let outcome = delta.apply(response(ADDRESS, "n", bad, &[]));
    assert_eq!(outcome.refused.len(), 1000);
    let message = outcome.reply.error_detail.unwrap().message;
    assert!(
        message.ends_with("and 990 more") && message.len() < 4096,
        "{message}"
    );
}

#[test]
fn who_is_enrolled_is_asked_for_by_name_and_published_apart() {
    let mut delta = Delta::with_enrolment("n1");
    let [_, _, asked] = delta.first_requests().try_into().unwrap();
    assert_eq!(asked.type_url, ENROLMENT);
    assert_eq!(
        asked.resource_names_subscribe,
        ["node/n1", "namespaces"].map(String::from)
    );
    let pod = enrolment::Pod {
        uid: "u1".into(),
        namespace: "shop".into(),
        name: "web".into(),
        enrolled: true,
        addresses: vec![vec![10, 0, 0, 1]],
    };
    let node = Enrolment {
        pods: vec![pod],
        ..Enrolment::default()
    };
    let node = |version| resource(ENROLMENT, "node/n1", version, node.encode_to_vec());
    let first = delta.apply(response(ENROLMENT, "1", vec![node("1")], &["namespaces"]));
    assert!(first.snapshot.is_none() && first.refused.is_empty());
    let answer = first.answer.unwrap();
    assert!(answer.namespaces.is_empty());
    assert_eq!(answer.verdict("shop", "web", "u1"), Verdict::Known(true));
    let held = &delta.first_requests()[2].initial_resource_versions;
    assert_eq!(held["node/n1"], "1");

    let other = resource(ENROLMENT, "node/n2", "1", Vec::new());
    let refused = delta.apply(response(ENROLMENT, "2", vec![other], &[]));
    assert!(
        refused.refused[0].contains("node/n2"),
        "{:?}",
        refused.refused
    );
    let gone = delta.apply(response(ENROLMENT, "3", vec![], &["node/n1"]));
    let verdict = gone.answer.unwrap().verdict("shop", "web", "u1");
    assert_eq!(verdict, Verdict::ByNamespace(false));
}
