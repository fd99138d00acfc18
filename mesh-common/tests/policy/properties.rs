//! What holds for every set of policies and every connection.

use mesh_common::policy::{
    Connection, Explanation, Policy, PolicyIndex, PolicyNames, Reason, Verdict, decide, explain,
    nearest, report,
};
use mesh_common::proto::security::{Action, Authorization};
use mesh_common::proto::workload::Extension;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::random::{self, Facts, NAMESPACES};
use crate::reference::{self, Stated};

/// Sets of policies for each property, and connections for each of them.
const SETS: u64 = 4_000;
const CONNECTIONS: usize = 5;

/// Policies, and a workload that they may apply to.
pub(crate) struct World {
    pub(crate) policies: Vec<Stated>,
    pub(crate) namespace: &'static str,
    listed: Vec<String>,
}

impl World {
    pub(crate) fn random(rng: &mut StdRng) -> Self {
        let policies = random::policies(rng);
        let mut listed: Vec<_> = policies
            .iter()
            .map(Stated::key)
            .filter(|_| random::chance(rng, 2))
            .collect();
        if random::chance(rng, 30) {
            listed.push("shop/missing".into());
        }
        let namespace = random::pick(rng, &NAMESPACES);
        Self {
            policies,
            namespace,
            listed,
        }
    }

    pub(crate) fn names(&self) -> PolicyNames {
        self.listed.iter().map(String::as_str).collect()
    }

    pub(crate) fn index(&self) -> PolicyIndex {
        let mut index = PolicyIndex::default();
        self.policies
            .iter()
            .for_each(|stated| upsert(&mut index, stated.sent()));
        index
    }

    /// The verdict on each connection.
    fn decide(&self, all: &[Facts]) -> Vec<Verdict> {
        let index = self.index();
        let policies = index.of(self.namespace, &self.names());
        all.iter()
            .map(|facts| decide(&policies, &connection(facts)))
            .collect()
    }
}

fn upsert(index: &mut PolicyIndex, policy: Authorization) {
    index.upsert(Policy::try_from(policy).expect("a readable policy"));
}

fn connection(facts: &Facts) -> Connection<'_> {
    Connection {
        source: facts.source,
        destination: facts.destination,
        principal: facts.principal.as_ref(),
    }
}

/// Runs a property on random worlds, each from a seed of its own, which a failure names.
fn check(property: impl Fn(&mut StdRng, World, &[Facts]) + std::panic::RefUnwindSafe) {
    for seed in 0..SETS {
        let run = || {
            let mut rng = StdRng::seed_from_u64(seed);
            let world = World::random(&mut rng);
            let facts: Vec<_> = (0..CONNECTIONS).map(|_| random::facts(&mut rng)).collect();
            property(&mut rng, world, &facts);
        };
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("the property fails with seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn decided(verdict: &Verdict) -> reference::Expected {
    let by = verdict
        .policy
        .as_ref()
        .map(|policy| (policy.to_string(), verdict.rule));
    (verdict.is_allow(), by)
}

#[test]
fn the_engine_says_what_the_documented_rules_say() {
    check(|_, world, all| {
        let index = world.index();
        let policies = index.of(world.namespace, &world.names());
        for facts in all {
            let conn = connection(facts);
            let expected = |dry_run| {
                reference::verdict(
                    &world.policies,
                    world.namespace,
                    &world.listed,
                    &conn,
                    dry_run,
                )
            };
            let verdict = decide(&policies, &conn);
            assert_eq!(decided(&verdict), expected(false), "{facts:?}");

            let reports = report(&policies, &conn);
            let applying = reference::applying(&world.policies, world.namespace, &world.listed);
            let audits = reports
                .audit
                .iter()
                .map(|hit| (hit.policy.to_string(), hit.rule));
            assert_eq!(
                audits.collect::<Vec<_>>(),
                reference::audits(&applying, &conn),
                "{facts:?}"
            );
            let in_dry_run = applying
                .iter()
                .any(|stated| stated.policy.dry_run && !stated.audit);
            let would_be = in_dry_run.then(|| expected(true));
            assert_eq!(reports.dry_run.as_ref().map(decided), would_be, "{facts:?}");
        }
    });
}

#[test]
fn an_explanation_never_disagrees_with_the_decision() {
    check(|_, world, all| {
        let index = world.index();
        let policies = index.of(world.namespace, &world.names());
        for facts in all {
            let conn = connection(facts);
            let explanation = explain(&policies, &conn);
            assert_eq!(explanation.verdict, decide(&policies, &conn));
            assert_eq!(explanation.reports, report(&policies, &conn));
            assert_eq!(explanation.nearest, nearest(&policies, &conn));
            consistent(&explanation);
        }
    });
}

/// The parts of an explanation add up.
fn consistent(explanation: &Explanation) {
    for policy in &explanation.policies {
        assert_eq!(policy.matched, policy.rules.iter().any(|rule| rule.matched));
        for rule in &policy.rules {
            assert_eq!(
                rule.matched,
                rule.clauses.iter().all(|clause| clause.matched)
            );
            for clause in &rule.clauses {
                let mut alternatives = clause.alternatives.iter();
                assert_eq!(
                    clause.matched,
                    alternatives.any(|alternative| alternative.matched)
                );
            }
        }
    }
    let Some(nearest) = &explanation.nearest else {
        return;
    };
    assert!(
        !nearest.failed.is_empty() && nearest.failed.iter().all(|condition| !condition.matched)
    );
    let near = explanation
        .policies
        .iter()
        .find(|policy| policy.policy == nearest.policy);
    assert!(near.is_some_and(|policy| !policy.rules[nearest.rule].matched));
}

#[test]
fn a_deny_policy_never_widens() {
    check(|rng, mut world, all| {
        let before = world.decide(all);
        let mut added = random::policy(rng, "added");
        added.policy.action = Action::Deny.into();
        world
            .listed
            .extend(random::chance(rng, 2).then(|| added.key()));
        world.policies.push(added);
        for ((before, after), facts) in before.iter().zip(world.decide(all)).zip(all) {
            assert!(before.is_allow() || !after.is_allow(), "{facts:?}");
        }
    });
}

/// An ALLOW policy beside another one that applies and is enforced never takes a permission away, and never
/// gives one where a DENY policy or a missing one decided. The first ALLOW policy of a workload takes away
/// all that it does not match, and nothing else.
#[test]
fn an_allow_policy_never_narrows_what_others_allow() {
    check(|rng, mut world, all| {
        let before = world.decide(all);
        let mut added = random::policy(rng, "added");
        (added.policy.action, added.audit) = (Action::Allow.into(), false);
        world
            .listed
            .extend(random::chance(rng, 2).then(|| added.key()));
        world.policies.push(added);
        for ((before, after), facts) in before.iter().zip(world.decide(all)).zip(all) {
            match before.reason {
                Reason::NoPolicy if !after.is_allow() => {
                    assert_eq!(after.reason, Reason::NoAllowMatched);
                    assert!(
                        after
                            .policy
                            .as_deref()
                            .is_some_and(|key| key.ends_with("/added"))
                    );
                }
                Reason::NoPolicy | Reason::NoAllowMatched => {}
                Reason::AllowRule => assert!(after.is_allow(), "{facts:?}"),
                _ => assert_eq!(&after, before, "{facts:?}"),
            }
        }
    });
}

#[test]
fn the_order_and_the_way_policies_come_do_not_matter() {
    check(|rng, world, all| {
        let mut index = PolicyIndex::default();
        let names = world.names();
        // The list is known before its policies, each of which is there in another form first.
        let kept = index.retain(&names);
        let mut order: Vec<_> = world.policies.iter().collect();
        order.shuffle(rng);
        for stated in &order {
            let mut other = random::policy(rng, &stated.policy.name);
            other.policy.namespace.clone_from(&stated.policy.namespace);
            upsert(&mut index, other.sent());
            if random::chance(rng, 2) {
                index.remove(&stated.key());
            }
        }
        let earlier = index.clone();
        earlier.compile();
        order.shuffle(rng);
        order
            .iter()
            .for_each(|stated| upsert(&mut index, stated.sent()));
        index.compile();
        let expected = world.decide(all);
        let verdicts = |index: &PolicyIndex, names: &PolicyNames| -> Vec<_> {
            let policies = index.of(world.namespace, names);
            let decided = all
                .iter()
                .map(|facts| decide(&policies, &connection(facts)));
            decided.collect()
        };
        assert_eq!(verdicts(&index, &kept), expected);
        assert_eq!(verdicts(&index, &names), expected);
        // Nobody has the list any more: it is compiled for the question.
        index.release(&names);
        assert_eq!(verdicts(&index, &names), expected);
    });
}

#[test]
fn what_others_add_to_a_policy_as_a_whole_does_not_alter_a_verdict() {
    check(|rng, mut world, all| {
        let before = world.decide(all);
        for stated in &mut world.policies {
            let name = format!("other-{}", rng.random_range(0..9));
            stated
                .policy
                .extensions
                .push(Extension { name, config: None });
        }
        assert_eq!(before, world.decide(all));
    });
}
