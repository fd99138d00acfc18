//! The golden table, run by the engine alone: policies are read here straight from their documented form.

#[path = "../../../tests/policy/format.rs"]
mod format;
mod reading;

use mesh_common::policy::{Policy, PolicyIndex, PolicyNames};

#[test]
fn the_engine_agrees_with_the_table() {
    let mut wrong = Vec::new();
    for table in format::load() {
        let read = reading::read(&table.policies);
        let mut index = PolicyIndex::default();
        for policy in &read {
            index.upsert(Policy::try_from(policy.authorization.clone()).unwrap());
        }
        for case in &table.cases {
            let (namespace, _) = case.destination();
            let listed = read.iter().filter(|policy| policy.is_listed_in(namespace));
            let names: PolicyNames = listed.map(reading::Read::key).collect();
            wrong.extend(case.check(&index.of(namespace, &names)).err());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
