//! The kustomizations and the Helm chart render to the same objects, and those are what is meant.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use clap::Parser as _;
use lab::manifests::{Object, build, chart, directory};
use mesh_ctl::meshctl::install::{Values, render};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn by_id(objects: Vec<Object>) -> BTreeMap<String, Value> {
    let count = objects.len();
    let objects: BTreeMap<_, _> = objects
        .into_iter()
        // Helm makes the namespace itself, before anything of the chart.
        .filter(|object| object.kind() != "Namespace")
        .map(|object| (object.id(), object.0))
        .collect();
    assert!(objects.len() + 1 >= count, "an object is there twice");
    objects
}

fn overlay(name: &str) -> BTreeMap<String, Value> {
    by_id(build(&directory().join("kustomize/overlays").join(name)).unwrap())
}

fn helm(values: &Value) -> BTreeMap<String, Value> {
    by_id(chart(&directory().join("helm/weft"), "weft-system", values).unwrap())
}

fn assert_same(kustomize: &BTreeMap<String, Value>, helm: &BTreeMap<String, Value>) {
    let ids = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(ids(kustomize), ids(helm));
    for (id, object) in kustomize {
        assert_eq!(object, &helm[id], "{id}");
    }
}

#[test]
fn the_default_overlay_is_the_chart() {
    assert_same(&overlay("default"), &helm(&json!({})));
}

#[test]
fn the_overlay_for_development_is_the_chart_with_these_values() {
    let requests = |memory: &str| json!({"requests": {"cpu": "10m", "memory": memory}});
    let values = json!({
        "controller": {"replicas": 1, "minAvailable": 0, "resources": requests("64Mi")},
        "node": {"resources": requests("48Mi")},
    });
    assert_same(&overlay("dev"), &helm(&values));
}

#[test]
fn the_overlay_for_the_prometheus_operator_is_the_chart_with_monitors() {
    assert_same(
        &overlay("prometheus-operator"),
        &helm(&json!({"podMonitors": true})),
    );
}

#[derive(clap::Parser)]
struct Options {
    #[command(flatten)]
    values: Values,
}

/// What `meshctl install` applies in that namespace.
fn installed(namespace: &str, arguments: &[&str]) -> Vec<Object> {
    let options = Options::parse_from(["meshctl"].iter().chain(arguments));
    let objects = render(&options.values, namespace).unwrap();
    let value = |object| Object(serde_json::to_value(object).unwrap());
    objects.into_iter().map(value).collect()
}

#[test]
fn meshctl_installs_the_default_overlay() {
    let overlay = overlay("default");
    assert_same(&overlay, &by_id(installed("weft-system", &[])));
    let is_namespace = |object: &Object| object.kind() == "Namespace";
    let mut base = build(&directory().join("kustomize/base")).unwrap();
    base.retain(is_namespace);
    let mut own = installed("weft-system", &[]);
    own.retain(is_namespace);
    assert_eq!((&own, own.len()), (&base, 1));
}

#[test]
fn meshctl_installs_monitors_where_they_are_asked_for() {
    let own = by_id(installed("weft-system", &["--pod-monitors"]));
    assert_same(&overlay("prometheus-operator"), &own);
}

#[test]
fn meshctl_has_options_for_the_values_of_the_chart() {
    let values = json!({
        "image": {"repository": "r.example.org:5000/a/weft", "tag": "9", "pullPolicy": "Always"},
        "mesh": {"trustDomain": "example.org", "clusterId": "one", "rootNamespace": "policies"},
        "controller": {"replicas": 5, "minAvailable": 3},
        "node": {"sameNode": "direct"},
        "podMonitors": true,
    });
    let arguments = [
        "--image-repository=r.example.org:5000/a/weft",
        "--image-tag=9",
        "--image-pull-policy=Always",
        "--trust-domain=example.org",
        "--cluster-id=one",
        "--root-namespace=policies",
        "--controller-replicas=5",
        "--controller-min-available=3",
        "--same-node=direct",
        "--pod-monitors",
    ];
    for namespace in ["weft-system", "mesh"] {
        let chart = chart(&directory().join("helm/weft"), namespace, &values).unwrap();
        assert_same(&by_id(chart), &by_id(installed(namespace, &arguments)));
    }
    // A budget that keeps the only controller would hold up every drain.
    let one = json!({"controller": {"replicas": 1, "minAvailable": 0}});
    let own = by_id(installed("weft-system", &["--controller-replicas=1"]));
    assert_same(&helm(&one), &own);
}

#[test]
fn values_reach_what_they_name() {
    let values = json!({
        "image": {"repository": "example.org/mesh", "tag": "9"},
        "mesh": {"trustDomain": "example.org"},
        "node": {"sameNode": "direct"},
    });
    let objects = helm(&values);
    let text = objects["DaemonSet weft-system/weft-node"].to_string();
    for wanted in [
        "example.org/mesh/mesh-node:9",
        "--trust-domain=example.org",
        "--same-node=direct",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in {text}");
    }
}

/// Every container of every workload, with the pod it is in.
fn containers(objects: &BTreeMap<String, Value>) -> Vec<(String, Value, Value)> {
    let mut found = Vec::new();
    for (id, object) in objects {
        let pod = &object["spec"]["template"]["spec"];
        for list in ["initContainers", "containers"] {
            for container in pod[list].as_array().into_iter().flatten() {
                found.push((id.clone(), pod.clone(), container.clone()));
            }
        }
    }
    found
}

#[test]
fn no_container_has_more_than_it_needs() {
    let objects = overlay("default");
    let containers = containers(&objects);
    assert!(containers.len() >= 2);
    for (id, pod, container) in containers {
        let security = &container["securityContext"];
        assert_eq!(security["privileged"], Value::Null, "{id}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{id}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{id}");
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "{id}");
        assert_eq!(
            pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault",
            "{id}"
        );
        assert!(
            container["resources"]["requests"]["memory"].is_string(),
            "{id}"
        );
        if pod["hostPID"] != true {
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{id}");
            assert_eq!(security["capabilities"]["add"], Value::Null, "{id}");
        }
    }
}

#[test]
fn no_role_grants_everything_or_reads_secrets_by_the_dozen() {
    for (id, object) in overlay("default") {
        for rule in object["rules"].as_array().into_iter().flatten() {
            let text = rule.to_string();
            assert!(!text.contains('*'), "{id}: {text}");
            let of_secrets = rule["resources"]
                .as_array()
                .is_some_and(|list| list.contains(&json!("secrets")));
            if of_secrets && rule["verbs"] != json!(["create"]) {
                assert_eq!(rule["resourceNames"], json!(["weft-ca"]), "{id}: {text}");
            }
        }
    }
}

#[test]
fn the_chart_and_the_images_have_the_version_of_the_workspace() {
    let chart = std::fs::read_to_string(directory().join("helm/weft/Chart.yaml")).unwrap();
    let chart: Value = serde_norway::from_str(&chart).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    for (id, _, container) in containers(&overlay("default")) {
        let image = container["image"].as_str().unwrap();
        assert!(
            image.ends_with(concat!(":", env!("CARGO_PKG_VERSION"))),
            "{id}: {image}"
        );
    }
}

#[test]
fn what_prometheus_is_told_names_ports_that_are_declared() {
    let text = std::fs::read_to_string(directory().join("prometheus/scrape.yaml")).unwrap();
    let config: Value = serde_norway::from_str(&text).unwrap();
    let jobs = config["scrape_configs"].as_array().unwrap();
    let monitors = overlay("prometheus-operator");
    let declared = containers(&monitors);
    for (job, port) in [("weft-node", "metrics"), ("weft-controller", "admin")] {
        let is_job = |found: &&Value| found["job_name"] == job;
        let scraped = jobs.iter().find(is_job).unwrap().to_string();
        assert!(scraped.contains(&format!("{job};{port}")), "{scraped}");
        let monitor = &monitors[&format!("PodMonitor weft-system/{job}")];
        assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], port);
        let declares = |(id, _, container): &(String, Value, Value)| {
            id.ends_with(job)
                && container["ports"]
                    .to_string()
                    .contains(&format!("\"{port}\""))
        };
        assert!(
            declared.iter().any(declares),
            "{job} declares no port {port}"
        );
    }
}
