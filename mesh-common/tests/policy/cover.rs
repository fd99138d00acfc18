//! What is proven of rules, against the decision: what is said to be redundant changes no verdict when it is
//! gone, what is said never to match never does.

use mesh_common::policy::{
    Connection, Policy, PolicyAction, PolicyIndex, PolicyNames, Reach, Scope, decide, explain,
    shadowed,
};
use rand::RngExt as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::sync::Arc;

use crate::random::{self, Facts, NAMESPACES};

const SETS: u64 = 10_000;
const CONNECTIONS: usize = 12;

/// Policies of one namespace with their scopes: the mesh's, the namespace's, and listed ones.
fn policies(rng: &mut StdRng) -> Vec<Arc<Policy>> {
    let all = (0..rng.random_range(2..7)).map(|n| {
        let mut stated = random::policy(rng, &format!("p{n}"));
        stated.policy.namespace = NAMESPACES[0].into();
        Arc::new(Policy::try_from(stated.sent()).expect("a readable policy"))
    });
    all.collect()
}

/// Listed policies are only known to be where they themselves are.
fn applies_wherever(wide: &Policy, narrow: &Policy) -> bool {
    match wide.scope {
        Scope::Global => true,
        Scope::Namespace => narrow.scope != Scope::Global,
        Scope::Selector => wide.key() == narrow.key(),
    }
}

fn index(policies: &[Arc<Policy>]) -> PolicyIndex {
    let mut index = PolicyIndex::default();
    policies
        .iter()
        .for_each(|policy| index.upsert(Policy::clone(policy)));
    index
}

fn connection(facts: &Facts) -> Connection<'_> {
    Connection {
        source: facts.source,
        destination: facts.destination,
        principal: facts.principal.as_ref(),
    }
}

/// The policies without rule `rule` of policy `key`. The place stays: the others keep their numbers.
fn without(policies: &[Arc<Policy>], gone: &[(Arc<str>, usize)]) -> Vec<Arc<Policy>> {
    let keep = |policy: &Arc<Policy>| {
        let mut policy = Policy::clone(policy);
        let mut n = 0;
        let key = policy.key().clone();
        policy.rules.retain(|_| {
            n += 1;
            !gone.contains(&(key.clone(), n - 1))
        });
        Arc::new(policy)
    };
    policies.iter().map(keep).collect()
}

#[test]
fn a_shadowed_rule_changes_no_verdict_when_it_is_removed() {
    let (mut found, mut denied) = (0, 0);
    for seed in 0..SETS {
        let rng = &mut StdRng::seed_from_u64(seed);
        let policies = policies(rng);
        let shadows = shadowed(&policies, applies_wherever);
        found += shadows.len();
        denied += shadows.iter().filter(|shadow| shadow.denied).count();
        if shadows.is_empty() {
            continue;
        }
        let gone =
            |shadow: &mesh_common::policy::Shadow| (shadow.rule.policy.clone(), shadow.rule.rule);
        let mut fewer: Vec<_> = shadows
            .iter()
            .map(|shadow| index(&without(&policies, &[gone(shadow)])))
            .collect();
        let all: Vec<_> = shadows.iter().map(gone).collect();
        fewer.push(index(&without(&policies, &all)));
        let before = index(&policies);
        // A workload of the namespace that lists some of the policies, and one elsewhere: no policy of a
        // namespace selects beyond it.
        let listed = policies
            .iter()
            .filter(|_| random::chance(rng, 2))
            .map(|policy| policy.key().clone())
            .collect();
        let workloads = [
            (NAMESPACES[0], listed),
            (NAMESPACES[1], PolicyNames::default()),
        ];
        for (namespace, listed) in &workloads {
            for _ in 0..CONNECTIONS {
                let facts = random::facts(rng);
                let now = decide(&before.of(namespace, listed), &connection(&facts));
                for after in &fewer {
                    let then = decide(&after.of(namespace, listed), &connection(&facts));
                    assert_eq!(
                        now.action, then.action,
                        "seed {seed}, {facts:?}: {shadows:?} of {policies:?}"
                    );
                }
            }
        }
    }
    assert!(
        found > 1_000 && denied > 100,
        "{found} found, {denied} denied"
    );
}

#[test]
fn what_is_proven_of_a_rule_holds_for_every_connection() {
    let (mut never, mut needs, mut excludes) = (0, 0, 0);
    for seed in 0..SETS {
        let rng = &mut StdRng::seed_from_u64(seed);
        let policies = policies(rng);
        let index = index(&policies);
        let names = policies.iter().map(|policy| policy.key().clone()).collect();
        let set = index.of(NAMESPACES[0], &names);
        let all: Vec<_> = (0..CONNECTIONS).map(|_| random::facts(rng)).collect();
        let mut reaches = Vec::new();
        for policy in &policies {
            for (rule, stated) in policy.rules.iter().enumerate() {
                let reach = Reach::of(stated, policy.action);
                never += usize::from(reach.is_empty());
                needs += usize::from(reach.needs_principal());
                excludes += usize::from(reach.excludes_principals());
                reaches.push((policy.key(), rule, stated, reach));
            }
        }
        for facts in &all {
            let traces = explain(&set, &connection(facts)).policies;
            let known = facts.principal.is_some();
            for (key, rule, stated, reach) in &reaches {
                let trace = traces.iter().find(|trace| trace.policy == **key);
                if !trace.expect("it applies").rules[*rule].matched {
                    continue;
                }
                assert!(
                    !reach.is_empty(),
                    "seed {seed}: {stated:?} matched {facts:?}"
                );
                assert!(known || !reach.needs_principal(), "seed {seed}: {stated:?}");
                assert!(
                    !known || !reach.excludes_principals(),
                    "seed {seed}: {stated:?}"
                );
            }
        }
    }
    assert!(
        never > 1_000 && needs > 1_000 && excludes > 100,
        "{never} {needs} {excludes}"
    );
}

/// Every rule is within itself, and what is within another matches only where the other does.
#[test]
fn what_is_within_another_rule_matches_only_with_it() {
    let mut within = 0;
    for seed in 0..SETS {
        let rng = &mut StdRng::seed_from_u64(seed);
        let policies = policies(rng);
        let index = index(&policies);
        let names = policies.iter().map(|policy| policy.key().clone()).collect();
        let set = index.of(NAMESPACES[0], &names);
        let rules: Vec<_> = policies
            .iter()
            .flat_map(|p| p.rules.iter().enumerate().map(move |at| (p, at)))
            .collect();
        let mut pairs = Vec::new();
        for (a, (n, rule)) in &rules {
            let reach = Reach::of(rule, a.action);
            for (b, (m, other)) in &rules {
                // What is not understood is one thing in an ALLOW policy and another elsewhere.
                if reach.is_within(other, b.action) {
                    pairs.push(((a.key(), *n), (b.key(), *m)));
                }
            }
        }
        within += pairs.iter().filter(|(a, b)| a != b).count();
        for _ in 0..4 {
            let facts = random::facts(rng);
            let traces = explain(&set, &connection(&facts)).policies;
            let matched = |(key, rule): (&Arc<str>, usize)| {
                let trace = traces.iter().find(|trace| trace.policy == *key);
                trace.expect("it applies").rules[rule].matched
            };
            for (a, b) in &pairs {
                assert!(
                    !matched(*a) || matched(*b),
                    "seed {seed}: {a:?} {b:?} {facts:?}"
                );
            }
        }
    }
    assert!(within > 5_000, "{within}");
}

/// What is easy to see must be found; the properties above would hold of a proof that finds nothing.
#[test]
fn plain_cases_are_proven() {
    let rule = |text: &str| -> mesh_common::policy::Rule { stated(text) };
    let allow = PolicyAction::Allow;
    for (narrow, wide) in [
        ("ns=shop", ""),
        ("sa=shop/web", "ns=shop"),
        ("p=cluster.local/ns/shop/sa/web", "ns=shop|ns=ops"),
        ("p=cluster.local/ns/shop/sa/web", "sa=shop/web"),
        ("p=*/ns/shop/sa/web", "sa=shop/web"),
        ("p=cluster.local/ns/shop/*", "ns=shop"),
        ("p=cluster.local/ns/shop/*", "p=*"),
        ("ns=shop", "p=*"),
        ("ns=shop port=80", "ns=shop|port=443"),
        ("ip=10.0.0.0/16", "ip=10.0.0.0/8"),
        ("ip=10.0.0.0/16", "!ip=192.168.0.0/16"),
        ("port=80", "!port=443"),
        ("ns=shop", "!ns=ops"),
        ("!p=*", "!p=cluster.local/ns/shop/sa/web"),
        ("!p=*", "!ns=shop"),
        ("ns=shop|sa=shop/web", "ns=shop"),
    ] {
        let reach = Reach::of(&rule(narrow), allow);
        assert!(
            reach.is_within(&rule(wide), allow),
            "{narrow} is within {wide}"
        );
        let back = Reach::of(&rule(wide), allow).is_within(&rule(narrow), allow);
        let same = narrow == "ns=shop|sa=shop/web";
        assert_eq!(back, same, "{wide} is within {narrow}");
    }
    for never in [
        "ns=shop !p=*",
        "ns=shop & ns=ops",
        "port=80 & port=443",
        "port=80 !port=80",
        "sa=shop/web & ns=ops",
        "p=cluster.local/ns/shop/sa/web & sa=shop/db",
        "p=cluster.local/* & p=old.example/*",
        "ip=10.0.0.0/8 & ip=fd00::/8",
        "ip=10.1.0.0/16 !ip=10.0.0.0/8",
    ] {
        assert!(Reach::of(&rule(never), allow).is_empty(), "{never}");
    }
}

/// A rule of clauses (`&`), alternatives (`|`) and conditions (spaces).
fn stated(text: &str) -> mesh_common::policy::Rule {
    use mesh_common::policy::{Clause, Match, Rule, ServiceAccountMatch, StringMatch};
    let string = |value: &str| match value {
        "*" => StringMatch::Presence,
        v if v.starts_with('*') => StringMatch::Suffix(v[1..].into()),
        v if v.ends_with('*') => StringMatch::Prefix(v[..v.len() - 1].into()),
        v => StringMatch::Exact(v.into()),
    };
    let condition = |text: &str| {
        let mut m = Match::default();
        for one in text.split_whitespace() {
            let (field, value) = one.split_once('=').expect("FIELD=VALUE");
            match field {
                "p" => m.principals.push(string(value)),
                "!p" => m.not_principals.push(string(value)),
                "ns" => m.namespaces.push(string(value)),
                "!ns" => m.not_namespaces.push(string(value)),
                "sa" => {
                    let (namespace, account) = value.split_once('/').expect("NS/SA");
                    m.service_accounts.push(ServiceAccountMatch {
                        namespace: namespace.into(),
                        service_account: account.into(),
                    });
                }
                "ip" => m.source_ips.push(value.parse().expect("a block")),
                "!ip" => m.not_source_ips.push(value.parse().expect("a block")),
                "port" => m.destination_ports.push(value.parse().expect("a port")),
                "!port" => m.not_destination_ports.push(value.parse().expect("a port")),
                other => panic!("{other}"),
            }
        }
        m
    };
    let clauses = text.split('&').filter(|clause| !clause.trim().is_empty());
    let clause = |text: &str| Clause {
        matches: text.split('|').map(condition).collect(),
    };
    Rule {
        clauses: clauses.map(clause).collect(),
    }
}
