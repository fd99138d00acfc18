//! Each directory in `tests/golden` holds an `input` directory of Kubernetes YAML and what it must
//! become: `expected.json` (the compiled resources) or `expected.txt` (the problems). Run with
//! `UPDATE_GOLDEN=1` to write them anew, then read the difference.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use mesh_ctl::compile::{Options, compile};
use mesh_ctl::resources::World;
use mesh_ctl::serve::admin::dump;
use mesh_ctl::source;

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

/// Versions are left out: they change with every byte.
fn without_versions(mut dump: serde_json::Value) -> serde_json::Value {
    for table in ["addresses", "policies", "enrolments"] {
        for entry in dump[table].as_object_mut().unwrap().values_mut() {
            *entry = entry["resource"].take();
        }
    }
    dump
}

fn outcome(input: &Path) -> (&'static str, String) {
    let prefix = format!("{}/", input.display());
    match source::read(input) {
        Ok(objects) => {
            let mut compiled = compile(&objects, &options());
            let again = compile(&objects, &options());
            assert_eq!(compiled, again, "equal objects must give equal bytes");
            let warnings: BTreeSet<String> = std::mem::take(&mut compiled.warnings);
            let world = World::default()
                .next(compiled.into(), Instant::now())
                .unwrap();
            let dump = without_versions(dump(&world, &warnings));
            let text = serde_json::to_string_pretty(&dump).unwrap();
            ("expected.json", format!("{text}\n").replace(&prefix, ""))
        }
        Err(problems) => ("expected.txt", format!("{problems}\n").replace(&prefix, "")),
    }
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = root
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

#[test]
fn every_input_becomes_what_is_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (name, got) = outcome(&case.join("input"));
        let file = case.join(name);
        if update {
            std::fs::write(&file, &got).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if got != expected {
            wrong.push(format!("{}:\n{got}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "not as expected:\n{}", wrong.join("\n"));
}

#[test]
fn every_problem_is_one_line_with_file_and_remedy() {
    for case in cases()
        .iter()
        .filter(|case| case.join("expected.txt").exists())
    {
        let problems = source::read(&case.join("input")).unwrap_err();
        for problem in &problems.0 {
            let line = problem.to_string();
            assert!(!line.contains('\n'), "{line}");
            assert!(line.contains(".yaml: document "), "{line}");
        }
    }
}
