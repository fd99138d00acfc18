//! The same YAML, read from a directory and from an API server, compiles to the same bytes.
//!
//! What an API server demands beyond what a directory does is added on both sides, and what the server at
//! hand is too old to keep is taken away on both.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use mesh_ctl::compile::{Options, compile, render};
use mesh_ctl::model::Objects;
use mesh_ctl::resources::{Compiled, Kind, Resource};
use mesh_ctl::source;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::{self, name};
use crate::watching::Watching;

const USED: [&str; 8] = [
    "Namespace",
    "Node",
    "ServiceAccount",
    "Service",
    "EndpointSlice",
    "AuthorizationPolicy",
    "PeerAuthentication",
    "Pod",
];

fn options() -> Options {
    Options {
        cluster_id: "Kubernetes".into(),
        trust_domain: "cluster.local".into(),
        trust_domain_aliases: Vec::new(),
        root_namespace: "istio-system".into(),
        dataplane_label: "istio.io/dataplane-mode".into(),
        dataplane_value: "ambient".into(),
    }
}

/// What nodes get. The server's own service is no file's.
fn compiled(objects: &Objects) -> Compiled {
    let mut compiled = compile(objects, &options());
    compiled.warnings.clear();
    compiled
        .addresses
        .retain(|name, _| &**name != "default/kubernetes.default.svc.cluster.local");
    compiled
}

/// What differs, for people.
fn difference(got: &Compiled, expected: &Compiled) -> String {
    let mut text = String::new();
    for (kind, got, expected) in [
        (Kind::Address, &got.addresses, &expected.addresses),
        (Kind::Authorization, &got.policies, &expected.policies),
        (Kind::Enrolment, &got.enrolments, &expected.enrolments),
    ] {
        let names: BTreeSet<_> = got.keys().chain(expected.keys()).collect();
        for name in names {
            let (got, expected) = (got.get(name), expected.get(name));
            if got != expected {
                let show = |r: Option<&Resource>| r.map_or(Value::Null, |r| render(kind, r));
                text += &format!("{name}: {} in place of {}\n", show(got), show(expected));
            }
        }
    }
    text + &format!("{:?} in place of {:?}", got.identities, expected.identities)
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let entries = root.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut good: Vec<_> = entries
        .filter(|case| !case.join("expected.txt").exists())
        .collect();
    good.sort();
    good
}

/// The objects that Weft uses of a directory.
fn documents(input: &Path) -> Vec<Value> {
    let mut all = Vec::new();
    let mut files: Vec<_> = input
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for document in serde_norway::Deserializer::from_str(&text) {
            let document = Value::deserialize(document).unwrap();
            match document["kind"].as_str() {
                Some(kind) if kind.ends_with("List") => {
                    let item_kind = kind.trim_end_matches("List");
                    for item in document["items"].as_array().unwrap() {
                        let mut item = item.clone();
                        if !item_kind.is_empty() {
                            item["apiVersion"] = document["apiVersion"].clone();
                            item["kind"] = json!(item_kind);
                        }
                        all.push(item);
                    }
                }
                _ => all.push(document),
            }
        }
    }
    let used = |document: &Value| {
        // An empty document is no object.
        let group = document["apiVersion"].as_str().unwrap_or_default();
        let ours = group == "v1"
            || group.starts_with("security.istio.io/")
            || group.starts_with("discovery.k8s.io/");
        ours && document["kind"]
            .as_str()
            .is_some_and(|kind| USED.contains(&kind))
    };
    all.retain(used);
    all
}

/// Adds what an API server demands.
fn complete(document: &mut Value) {
    let kind = document["kind"].as_str().unwrap().to_owned();
    if !["Namespace", "Node"].contains(&kind.as_str()) {
        let namespace = &mut document["metadata"]["namespace"];
        if namespace.is_null() {
            *namespace = json!("default");
        }
    }
    match kind.as_str() {
        "Pod" => {
            let spec = &mut document["spec"];
            if spec["containers"].is_null() {
                spec["containers"] = json!([{"name": "app"}]);
            }
            for list in ["containers", "initContainers"] {
                for container in spec[list].as_array_mut().into_iter().flatten() {
                    container["image"] = json!("none");
                }
            }
            let owners = document["metadata"]["ownerReferences"].as_array_mut();
            for owner in owners.into_iter().flatten() {
                owner["uid"] = json!("1");
            }
            // A server says Pending until it is told.
            if document["status"]["phase"].is_null() {
                document["status"]["phase"] = json!("Running");
            }
        }
        "EndpointSlice" => old_slice(document),
        // The first address is that of the server's own service.
        "Service" if document["spec"]["clusterIP"] == "10.96.0.1" => {
            document["spec"]["clusterIP"] = json!("10.96.15.1");
        }
        _ => {}
    }
}

/// In the version that an old server has: the place of an endpoint is in a map.
fn old_slice(document: &mut Value) {
    document["apiVersion"] = json!("discovery.k8s.io/v1beta1");
    let endpoints = document["endpoints"].as_array_mut();
    for endpoint in endpoints.into_iter().flatten() {
        let endpoint = endpoint.as_object_mut().unwrap();
        let mut topology = json!({});
        for (field, key) in [
            ("nodeName", "kubernetes.io/hostname"),
            ("zone", "topology.kubernetes.io/zone"),
        ] {
            if let Some(value) = endpoint.remove(field) {
                topology[key] = value;
            }
        }
        endpoint.insert("topology".into(), topology);
    }
}

/// Takes away what the server did not keep, with a word about it.
fn reduce(document: &mut Value, made: &Value) {
    let label = format!("{} {}", document["kind"], name(document));
    let forget = |owner: &mut Value, made: &Value, field: &str| {
        if !owner[field].is_null() && made[field].is_null() {
            println!("{label}: this server drops {field}, so it is not compared");
            owner.as_object_mut().unwrap().remove(field);
        }
    };
    match document["kind"].as_str() {
        Some("Service") => {
            if document["spec"]["clusterIP"].is_null() {
                // The server chose one.
                document["spec"]["clusterIP"] = made["spec"]["clusterIP"].clone();
            }
            for field in ["internalTrafficPolicy", "trafficDistribution"] {
                forget(&mut document["spec"], &made["spec"], field);
            }
        }
        Some("Pod") => {
            // The server chose one.
            document["metadata"]["uid"] = made["metadata"]["uid"].clone();
            let made = made["spec"]["initContainers"].as_array();
            let init = document["spec"]["initContainers"].as_array_mut();
            for (container, made) in init.into_iter().flatten().zip(made.into_iter().flatten()) {
                forget(container, made, "restartPolicy");
            }
        }
        _ => {}
    }
}

/// In the order of their age: creation dates are the server's, in whole seconds.
fn by_age(documents: &mut [Value]) {
    let created = |document: &Value| {
        let created = document["metadata"]["creationTimestamp"].as_str();
        let kind = document["kind"].as_str().unwrap();
        let place = USED.iter().position(|used| *used == kind).unwrap();
        // Undated pods count as the oldest, other undated objects as the newest.
        let undated = if kind == "Pod" { "" } else { "9" };
        (
            place,
            created.unwrap_or(undated).to_owned(),
            name(document).to_owned(),
        )
    };
    documents.sort_by_key(created);
}

async fn apply(client: &Client, documents: &mut [Value]) {
    for namespace in namespaces(documents) {
        label_namespace(client, &namespace, documents).await;
    }
    let mut last = HashMap::new();
    for document in documents {
        complete(document);
        let kind = document["kind"].as_str().unwrap().to_owned();
        if kind == "Namespace" {
            continue;
        }
        let date = document["metadata"]["creationTimestamp"].clone();
        if last.get(&kind).is_some_and(|last| *last != date) {
            next_second().await;
        }
        last.insert(kind.clone(), date);
        let mut sent = document.clone();
        let metadata = sent["metadata"].as_object_mut().unwrap();
        metadata.remove("creationTimestamp");
        let leaves = metadata.remove("deletionTimestamp").is_some();
        if leaves {
            metadata.insert("finalizers".into(), json!(["weft.test/stays"]));
        }
        let made = cluster::create(client, &sent).await;
        reduce(document, &made);
        if kind == "Pod" {
            cluster::set_status(client, document).await;
        }
        if leaves {
            cluster::delete(client, document).await;
        }
    }
}

fn namespaces(documents: &[Value]) -> BTreeSet<String> {
    let of = |document: &Value| match document["kind"].as_str() {
        Some("Namespace") => Some(name(document).to_owned()),
        Some("Node") => None,
        _ => {
            let namespace = document["metadata"]["namespace"].as_str();
            Some(namespace.unwrap_or("default").to_owned())
        }
    };
    documents.iter().filter_map(of).collect()
}

/// A namespace of this name with exactly the labels of the case: namespaces outlive it.
async fn label_namespace(client: &Client, namespace: &str, documents: &[Value]) {
    let is_it = |d: &&Value| d["kind"] == "Namespace" && name(d) == namespace;
    let labels = documents.iter().find(is_it);
    let labels = labels.map_or(json!({}), |found| found["metadata"]["labels"].clone());
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Namespace"));
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let document = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": namespace, "labels": labels},
    });
    let params = PatchParams::apply("golden").force();
    api.patch(namespace, &params, &Patch::Apply(&document))
        .await
        .unwrap();
}

/// Dates are in whole seconds: two that differ need as much between them.
async fn next_second() {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let start = now();
    while now() == start {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The directory's side: the documents as they were compared.
fn directory(documents: &[Value]) -> Objects {
    let root = tempfile::tempdir().unwrap();
    for (i, document) in documents.iter().enumerate() {
        let file = root.path().join(format!("{i}.json"));
        std::fs::write(file, document.to_string()).unwrap();
    }
    source::read(root.path()).unwrap()
}

/// A server refuses two services with one address; the directory source must settle it.
fn without_contested(documents: &mut Vec<Value>) {
    let mut taken = BTreeSet::new();
    documents.retain(|document| {
        let address = document["spec"]["clusterIP"].as_str();
        let address = address.filter(|ip| document["kind"] == "Service" && *ip != "None");
        address.is_none_or(|ip| taken.insert(ip.to_owned()))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sources_compile_to_equal_bytes() {
    let (_control_plane, client) = crate::watching::cluster().await;
    let mut watching = Watching::start(client.clone(), |_| None);
    let cases = cases();
    assert!(cases.len() >= 7, "the golden files are missing: {cases:?}");
    for case in cases {
        println!("{}", case.display());
        let mut documents = documents(&case.join("input"));
        assert!(!documents.is_empty());
        by_age(&mut documents);
        without_contested(&mut documents);
        apply(&client, &mut documents).await;
        let expected = compiled(&directory(&documents));
        let what = format!("{}: what the directory gives", case.display());
        let explain = |objects: &Objects| difference(&compiled(objects), &expected);
        watching
            .until_equal(&what, |objects| compiled(objects) == expected, explain)
            .await;
        // They outlive the case, as none of the mesh.
        for namespace in namespaces(&documents) {
            label_namespace(&client, &namespace, &[]).await;
        }
        cluster::empty(&client).await;
        let nothing = compiled(&Objects::default());
        watching
            .until("nothing left", |objects| compiled(objects) == nothing)
            .await;
    }
    watching.end().await;
}
