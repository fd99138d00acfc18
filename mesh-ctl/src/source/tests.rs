//! The directory source: layouts, problems once, and nothing half-applied.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::{DirectorySource, read};
use crate::metrics::Metrics;

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n---\n")
}

fn names(root: &Path) -> Vec<String> {
    read(root)
        .unwrap()
        .namespaces
        .keys()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn reads_recursively_and_only_configuration() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("a/b")).unwrap();
    std::fs::write(root.path().join("a/b/x.yml"), namespace("x")).unwrap();
    std::fs::write(root.path().join("y.yaml"), namespace("y")).unwrap();
    std::fs::write(root.path().join("notes.txt"), "not: [yaml").unwrap();
    std::fs::write(root.path().join(".y.yaml.swp"), "not: [yaml").unwrap();
    assert_eq!(names(root.path()), ["x", "y"]);
}

#[test]
fn a_mounted_config_map_is_read_once_and_followed_when_it_is_swapped() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    for (version, name) in [("..1", "one"), ("..2", "two")] {
        std::fs::create_dir(at(version)).unwrap();
        std::fs::write(at(version).join("ns.yaml"), namespace(name)).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/ns.yaml", at("ns.yaml")).unwrap();
    let (mut source, objects) =
        DirectorySource::open(root.path().into(), Metrics::default()).unwrap();
    assert_eq!(objects.namespaces.len(), 1);
    assert!(source.poll(false).is_none(), "nothing changed");
    symlink("..2", at("..data_tmp")).unwrap();
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    let objects = source.poll(false).unwrap();
    assert_eq!(objects.namespaces.keys().next().unwrap().to_string(), "two");
}

#[test]
fn a_loop_of_links_is_reported() {
    let root = tempfile::tempdir().unwrap();
    symlink(".", root.path().join("again")).unwrap();
    let problems = read(root.path()).unwrap_err();
    assert!(problems.to_string().contains("loop of links"), "{problems}");
}

#[test]
fn a_bad_read_changes_nothing_and_recovers() {
    let root = tempfile::tempdir().unwrap();
    let good = root.path().join("good.yaml");
    let bad = root.path().join("bad.yaml");
    std::fs::write(&good, namespace("one")).unwrap();
    let metrics = Metrics::default();
    let (mut source, _) = DirectorySource::open(root.path().into(), metrics.clone()).unwrap();
    std::fs::write(&good, namespace("two")).unwrap();
    std::fs::write(&bad, "kind: [").unwrap();
    assert!(
        source.poll(true).is_none(),
        "the good file waits for the bad one"
    );
    assert!(
        source.poll(false).is_none(),
        "an unchanged directory is not read again"
    );
    std::fs::remove_file(&bad).unwrap();
    let objects = source.poll(false).unwrap();
    assert_eq!(objects.namespaces.keys().next().unwrap().to_string(), "two");
    let text = metrics.render().unwrap();
    assert!(
        text.contains("directory_reads_total{outcome=\"ok\"} 2"),
        "{text}"
    );
    assert!(
        text.contains("directory_reads_total{outcome=\"invalid\"} 1"),
        "{text}"
    );

    std::fs::remove_dir_all(root.path()).unwrap();
    assert!(
        source.poll(false).is_none(),
        "a directory that is gone is not an empty one"
    );
}

#[test]
fn a_directory_that_is_absent_is_named() {
    let problems = read(Path::new("/nonexistent/weft")).unwrap_err();
    let line = problems.to_string();
    assert!(
        line.starts_with("/nonexistent/weft: cannot read the directory"),
        "{line}"
    );
}

#[test]
fn both_versions_of_a_slice_say_the_same() {
    let slices = |version: &str, place: &str, more: &str| {
        let root = tempfile::tempdir().unwrap();
        let text = format!(
            "apiVersion: discovery.k8s.io/{version}
kind: EndpointSlice
metadata: {{name: db-1, namespace: shop, labels: {{kubernetes.io/service-name: db{more}}}}}
addressType: IPv4
ports: [{{name: sql, port: 5432}}, {{name: all}}, {{name: dns, port: 53, protocol: UDP}}]
endpoints:
- addresses: [10.9.0.1]
  {place}
  conditions: {{ready: false, terminating: true}}
  targetRef: {{kind: Pod, name: db-0}}
- addresses: [10.9.0.2]
"
        );
        std::fs::write(root.path().join("slice.yaml"), text).unwrap();
        read(root.path()).unwrap().endpoint_slices
    };
    let new = slices("v1", "nodeName: n1\n  zone: z1", "");
    let old = slices(
        "v1beta1",
        "topology: {kubernetes.io/hostname: n1, topology.kubernetes.io/zone: z1}",
        "",
    );
    assert_eq!(new, old);
    let slice = new.values().next().unwrap();
    assert_eq!(slice.service.to_string(), "shop/db");
    let ports: Vec<_> = slice.ports.clone().into_iter().collect();
    assert_eq!(ports, [("all".into(), None), ("sql".into(), Some(5432))]);
    let [leaving, plain] = &slice.endpoints[..] else {
        panic!("two endpoints: {slice:?}");
    };
    assert_eq!((&*leaving.node, &*leaving.zone), ("n1", "z1"));
    assert!(!leaving.ready && !leaving.serving && leaving.terminating);
    assert_eq!(leaving.pod.as_ref().unwrap().to_string(), "shop/db-0");
    assert!(plain.ready && plain.serving && !plain.terminating && plain.pod.is_none());

    let repeats = ", endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io";
    assert!(
        slices("v1", "nodeName: n1", repeats).is_empty(),
        "selectors and pods say it"
    );
}
