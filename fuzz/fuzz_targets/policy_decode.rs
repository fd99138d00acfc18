//! Arbitrary bytes as a policy of a node: what cannot be read denies, and nothing panics.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_common::policy::{Policy, PolicyIndex, PolicyNames, Reason, Scope, decide, explain};
use mesh_common::proto::security::Authorization;
use mesh_fuzz::policy::Facts;
use prost::Message as _;

fuzz_target!(|input: (Facts, Vec<u8>)| {
    let (facts, bytes) = input;
    let wire = Authorization::decode(&*bytes).ok();
    let read = wire.clone().and_then(|wire| Policy::try_from(wire).ok());
    let policy = read
        .clone()
        .unwrap_or_else(|| Policy::unreadable("shop/p", wire.as_ref()));
    let (namespace, key) = (policy.namespace.clone(), policy.key().clone());
    let (dry_run, selects) = (policy.dry_run, policy.scope == Scope::Selector);
    let mut index = PolicyIndex::default();
    index.upsert(policy);
    let names: PolicyNames = selects.then_some(key).into_iter().collect();
    facts.with(|conn| {
        let policies = index.of(&namespace, &names);
        let verdict = decide(&policies, conn);
        assert_eq!(explain(&policies, conn).verdict, verdict);
        if read.is_none() && !dry_run {
            assert_eq!(
                (verdict.is_allow(), verdict.reason),
                (false, Reason::MissingPolicy)
            );
        }
    });
});
