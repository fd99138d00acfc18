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
