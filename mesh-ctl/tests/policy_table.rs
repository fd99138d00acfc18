//! The golden table of policy, run on what the controller compiles from YAML and what a node holds of it.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

#[path = "../../tests/policy/format.rs"]
mod format;

use std::fs;

use format::{ALIAS, Object, PODS, ROOT_NAMESPACE, TRUST_DOMAIN, Table};
use mesh_common::proto::security::Authorization;
use mesh_common::proto::workload::Address;
use mesh_common::snapshot::{Snapshot, SnapshotBuilder};
use mesh_ctl::compile::{Options, compile};
use mesh_ctl::resources::Compiled;
use mesh_ctl::source;
use prost::Message;
use serde_json::{Value, json};

fn compiled(objects: &[Value]) -> Compiled {
    let directory = tempfile::tempdir().unwrap();
    let documents: Vec<_> = objects.iter().map(Value::to_string).collect();
    fs::write(directory.path().join("all.yaml"), documents.join("\n---\n")).unwrap();
    let options = Options {
        cluster_id: "Kubernetes".into(),
        trust_domain: TRUST_DOMAIN.into(),
        trust_domain_aliases: vec![ALIAS.into()],
        root_namespace: ROOT_NAMESPACE.into(),
        dataplane_label: "istio.io/dataplane-mode".into(),
        dataplane_value: "ambient".into(),
    };
    compile(&source::read(directory.path()).unwrap(), &options)
}

/// The pods and the policies of a table, as Kubernetes has them.
fn objects(table: &Table) -> Vec<Value> {
    let pods = PODS.iter().map(|(namespace, name, addresses)| {
        let ips: Vec<_> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "labels": {"app": "server"}},
            "status": {"podIP": addresses[0], "podIPs": ips},
        })
    });
    pods.chain(table.policies.iter().map(object)).collect()
}

fn object(object: &Object) -> Value {
    let mut document = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": object.kind,
        "metadata": {"namespace": object.namespace, "name": object.name},
        "spec": serde_json::to_value(&object.spec).unwrap(),
    });
    if object.dry_run {
        document["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
    }
    document
}

/// What a node makes of the resources.
fn snapshot(compiled: &Compiled) -> Snapshot {
    let mut builder = SnapshotBuilder::default();
    for (name, policy) in &compiled.policies {
        let policy = Authorization::decode(policy.body()).unwrap();
        builder.upsert_policy(name, policy).unwrap();
    }
    for (name, address) in &compiled.addresses {
        let address = Address::decode(address.body()).unwrap();
        builder.upsert_address(name, address).unwrap();
    }
    builder.to_snapshot()
}

#[test]
fn what_the_controller_compiles_agrees_with_the_table() {
    let mut wrong = Vec::new();
    for table in format::load() {
        let snapshot = snapshot(&compiled(&objects(&table)));
        for case in &table.cases {
            let (namespace, pod) = case.destination();
            let workload = snapshot.workload_by_name(namespace, pod).unwrap();
            wrong.extend(case.check(&snapshot.policies_for(workload)).err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Which methods, paths, hosts or headers a rule names makes no difference at L4, nor how many.
#[test]
fn a_change_of_l7_fields_alone_compiles_to_the_same_policy() {
    let policy = |operation: Value, when: Value| {
        let rules = |action: &str| {
            json!({
                "apiVersion": "security.istio.io/v1",
                "kind": "AuthorizationPolicy",
                "metadata": {"namespace": "shop", "name": action.to_lowercase()},
                "spec": {
                    "action": action,
                    "rules": [
                        {"to": [{"operation": operation}], "from": [{"source": {"namespaces": ["ops"]}}]},
                        {"when": [when], "from": [{"source": {"namespaces": ["shop"]}}]},
                        {"to": [{"operation": {"ports": ["9090"]}}]},
                    ],
                },
            })
        };
        compiled(&["ALLOW", "DENY", "AUDIT"].map(rules)).policies
    };
    let header = |value: &str| json!({"key": "request.headers[x]", "values": [value]});
    let before = policy(json!({"ports": ["80"], "methods": ["GET"]}), header("a"));
    assert_eq!(before.len(), 3);
    for (operation, when) in [
        (
            json!({"ports": ["80"], "methods": ["POST", "PUT"]}),
            header("a"),
        ),
        (
            json!({"ports": ["80"], "paths": ["/x"], "notHosts": ["y"]}),
            header("b"),
        ),
        (
            json!({"ports": ["80"], "notPaths": ["/x"]}),
            json!({"key": "connection.sni", "notValues": ["z"]}),
        ),
    ] {
        assert_eq!(policy(operation, when), before);
    }
    let l4 = policy(json!({"ports": ["81"], "methods": ["GET"]}), header("a"));
    assert_ne!(l4, before, "a change at L4 shows");
}
