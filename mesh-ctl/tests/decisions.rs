//! What the controller compiles, decided by the engine that nodes use.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;

use mesh_common::identity::SpiffeId;
use mesh_common::policy::{Connection, Verdict, decide};
use mesh_common::proto::security::Authorization;
use mesh_common::proto::workload::Address;
use mesh_common::snapshot::{Snapshot, SnapshotBuilder};
use mesh_ctl::compile::{Options, compile};
use mesh_ctl::source;
use prost::Message;

fn snapshot(yaml: &str) -> Snapshot {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("all.yaml"), yaml).unwrap();
    let options = Options {
        cluster_id: "Kubernetes".into(),
        trust_domain: "cluster.local".into(),
        trust_domain_aliases: vec!["old.example".into()],
        root_namespace: "istio-system".into(),
        dataplane_label: "istio.io/dataplane-mode".into(),
        dataplane_value: "ambient".into(),
    };
    let compiled = compile(&source::read(directory.path()).unwrap(), &options);
    let mut builder = SnapshotBuilder::default();
    for (name, policy) in &compiled.policies {
        builder
            .upsert_policy(name, Authorization::decode(policy.body()).unwrap())
            .unwrap();
    }
    for (name, address) in &compiled.addresses {
        builder
            .upsert_address(name, Address::decode(address.body()).unwrap())
            .unwrap();
    }
    builder.to_snapshot()
}

/// The policy that decided, `+` for allowed and `-` for denied before it.
fn verdict(snapshot: &Snapshot, pod: &str, port: u16, account: Option<&str>) -> String {
    let verdict = decided(snapshot, pod, port, account);
    let sign = if verdict.is_allow() { "+" } else { "-" };
    format!("{sign}{}", verdict.policy.as_deref().unwrap_or_default())
}

fn decided(snapshot: &Snapshot, pod: &str, port: u16, account: Option<&str>) -> Verdict {
    let workload = snapshot.workload_by_name("shop", pod).unwrap();
    let account = account.map(|account| {
        format!("spiffe://cluster.local/ns/shop/sa/{account}")
            .parse::<SpiffeId>()
            .unwrap()
    });
    let connection = Connection {
        source: "10.9.9.9:40000".parse().unwrap(),
        destination: SocketAddr::new(workload.addresses[0], port),
        principal: account.as_ref(),
    };
    decide(&snapshot.policies_for(workload), &connection)
}

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
status: {podIP: 10.0.0.2}
---
";

#[test]
fn without_policy_everything_is_allowed() {
    let snapshot = snapshot(PODS);
    assert_eq!(verdict(&snapshot, "web", 80, None), "+");
}

#[test]
fn strict_refuses_plaintext_except_where_a_port_is_open() {
    let snapshot = snapshot(&format!(
        "{PODS}
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: mesh, namespace: istio-system}}
spec: {{mtls: {{mode: STRICT}}}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: metrics, namespace: shop}}
spec: {{selector: {{matchLabels: {{app: db}}}}, portLevelMtls: {{9100: {{mode: PERMISSIVE}}}}}}
"
    ));
    assert_eq!(
        verdict(&snapshot, "web", 80, None),
        "-istio-system/istio_converted_static_strict"
    );
    assert_eq!(verdict(&snapshot, "web", 80, Some("client")), "+");
    assert_eq!(
        verdict(&snapshot, "db", 5432, None),
        "-shop/istio_converted_metrics"
    );
    assert_eq!(verdict(&snapshot, "db", 5432, Some("client")), "+");
    assert_eq!(verdict(&snapshot, "db", 9100, None), "+");
}

#[test]
fn what_needs_l7_fails_closed() {
    let snapshot = snapshot(&format!(
        "{PODS}
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: get-only, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  rules: [{{to: [{{operation: {{methods: [GET]}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: no-admin-path, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: db}}}}
  action: DENY
  rules: [{{from: [{{source: {{serviceAccounts: [guest]}}}}], to: [{{operation: {{paths: [/admin]}}}}]}}]
"
    ));
    assert_eq!(
        verdict(&snapshot, "web", 80, Some("client")),
        "-shop/get-only"
    );
    assert_eq!(
        verdict(&snapshot, "db", 80, Some("guest")),
        "-shop/no-admin-path"
    );
    assert_eq!(verdict(&snapshot, "db", 80, Some("client")), "+");
}

#[test]
fn rules_are_known_by_their_number_in_the_policy() {
    let snapshot = snapshot(&format!(
        "{PODS}
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: callers, namespace: shop}}
spec:
  rules:
  - to: [{{operation: {{methods: [GET]}}}}]
  - from: [{{source: {{serviceAccounts: [client]}}}}]
"
    ));
    assert_eq!(decided(&snapshot, "web", 80, Some("client")).rule, Some(1));
    assert_eq!(
        verdict(&snapshot, "web", 80, Some("guest")),
        "-shop/callers"
    );
}

#[test]
fn a_principal_of_an_alias_is_the_same_of_the_trust_domain() {
    let snapshot = snapshot(&format!(
        "{PODS}
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: callers, namespace: shop}}
spec: {{rules: [{{from: [{{source: {{principals: [old.example/ns/shop/sa/client]}}}}]}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: never, namespace: shop}}
spec: {{action: DENY, rules: [{{from: [{{source: {{principals: [old.example/ns/shop/sa/evil, elsewhere/ns/shop/sa/client]}}}}]}}]}}
"
    ));
    assert_eq!(
        verdict(&snapshot, "web", 80, Some("client")),
        "+shop/callers"
    );
    assert_eq!(verdict(&snapshot, "web", 80, Some("evil")), "-shop/never");
    assert!(verdict(&snapshot, "web", 80, Some("other")).starts_with('-'));
}
