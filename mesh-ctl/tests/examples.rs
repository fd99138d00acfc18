//! What `manifests/` shows an operator is what the controller takes, without a word of warning.

use mesh_ctl::compile::{Options, compile};
use mesh_ctl::source;
use std::path::Path;

#[test]
fn the_examples_compile_without_a_warning() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/examples");
    let objects = source::read(&examples).unwrap();
    let options = Options {
        trust_domain: "cluster.local".parse().unwrap(),
        trust_domain_aliases: Vec::new(),
        cluster_id: "Kubernetes".into(),
        root_namespace: "istio-system".into(),
        dataplane_label: "istio.io/dataplane-mode".into(),
        dataplane_value: "ambient".into(),
    };
    let compiled = compile(&objects, &options);
    assert_eq!(compiled.warnings, Default::default());
    let names = |table: &std::collections::BTreeMap<std::sync::Arc<str>, _>| -> Vec<String> {
        table.keys().map(ToString::to_string).collect()
    };
    assert_eq!(
        names(&compiled.addresses),
        [
            "Kubernetes//Pod/shop/frontend-1",
            "Kubernetes//Pod/shop/web-1",
            "shop/web.shop.svc.cluster.local",
        ]
    );
    assert_eq!(
        names(&compiled.policies),
        [
            "istio-system/istio_converted_static_strict",
            "shop/web-callers"
        ]
    );
}
