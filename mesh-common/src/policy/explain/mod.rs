//! A verdict with everything that led to it.
//!
//! It is computed from the policies one by one, without the compiled tables: that both ways give the same
//! verdict is what the tests of [`decide`](super::decide) rest on.

mod text;
mod trace;

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

use super::{Connection, Hit, Policy, PolicyAction, PolicySet, Reports, Rule, Scope, Verdict};

/// A verdict, and how each policy that applies came to it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Explanation {
    /// What [`decide`](super::decide) says.
    pub verdict: Verdict,
    /// What [`report`](super::report) says.
    #[serde(flatten)]
    pub reports: Reports,
    /// When no ALLOW policy matched: the rule that came nearest.
    pub nearest: Option<NearMiss>,
    /// Every policy that applies: those of the mesh, of the namespace, and those listed; by name within each.
    pub policies: Vec<PolicyTrace>,
}

/// The rule of an enforced ALLOW policy with the fewest conditions that failed; the first of them in the
/// order of [`Explanation::policies`] and of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct NearMiss {
    /// Its policy, `namespace/name`.
    pub policy: Arc<str>,
    /// Its number in the policy, counted from 0.
    pub rule: usize,
    /// The conditions that failed: of each clause, those of the alternative with the fewest.
    pub failed: Vec<ConditionTrace>,
}

/// One policy and the connection.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct PolicyTrace {
    /// `namespace/name`.
    pub policy: Arc<str>,
    /// To which workloads it applies.
    pub scope: Scope,
    /// What it does when a rule matches.
    pub action: PolicyAction,
    /// Reported, not enforced.
    pub dry_run: bool,
    /// It could not be read, so it denies.
    pub unreadable: bool,
    /// Whether a rule matched.
    pub matched: bool,
    /// Its rules.
    pub rules: Vec<RuleTrace>,
}

/// One rule: every clause must match.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct RuleTrace {
    /// Whether all clauses matched.
    pub matched: bool,
    /// The clauses.
    pub clauses: Vec<ClauseTrace>,
}

/// One clause: one of its alternatives must match.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ClauseTrace {
    /// Whether one matched.
    pub matched: bool,
    /// The alternatives.
    pub alternatives: Vec<AlternativeTrace>,
}

/// One alternative: every condition must hold.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct AlternativeTrace {
    /// Whether all conditions held.
    pub matched: bool,
    /// The conditions.
    pub conditions: Vec<ConditionTrace>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ConditionTrace {
    /// The field, as policies spell it.
    pub field: Cow<'static, str>,
    /// What it asks for: any of these, or none of these for a field that begins with `not`.
    pub wanted: Vec<String>,
    /// What the connection has; none when it has no such thing.
    pub found: Option<String>,
    /// Whether it held.
    pub matched: bool,
}

/// Judges a connection and says how: the same verdict as [`decide`](super::decide), and the same reports as
/// [`report`](super::report).
#[must_use]
pub fn explain(policies: &PolicySet<'_>, conn: &Connection<'_>) -> Explanation {
    let conn = &conn.canonical();
    let traces: Vec<_> = policies
        .iter()
        .map(|policy| trace::policy(policy, conn))
        .collect();
    let missing = policies.missing();
    let verdict = judge(&traces, missing, |trace| !trace.dry_run);
    let would_be = |trace: &PolicyTrace| trace.dry_run && trace.action != PolicyAction::Audit;
    let dry_run = traces
        .iter()
        .any(would_be)
        .then(|| judge(&traces, missing, |_| true));
    let audits = traces
        .iter()
        .filter(|trace| trace.action == PolicyAction::Audit);
    let audit = audits.filter_map(PolicyTrace::hit).collect();
    Explanation {
        verdict,
        reports: Reports { audit, dry_run },
        nearest: near_miss(&traces),
        policies: traces,
    }
}

/// The rule of an ALLOW policy that came nearest to a connection which none of them matches: what an
/// explanation says, without the rest of it.
#[must_use]
pub fn nearest(policies: &PolicySet<'_>, conn: &Connection<'_>) -> Option<NearMiss> {
    let conn = &conn.canonical();
    let closed = || {
        policies
            .iter()
            .filter(|policy| policy.action == PolicyAction::Allow && !policy.dry_run)
    };
    let rules =
        closed().flat_map(|policy| policy.rules.iter().enumerate().map(move |at| (policy, at)));
    let failures =
        |(policy, (_, rule)): &(&Arc<Policy>, (usize, &Rule))| rule.failures(conn, policy.action);
    let (policy, (rule, _)) = rules.min_by_key(failures)?;
    // Only the nearest is looked at closely; it matches if any does.
    near_miss(&[trace::policy(policy, conn)]).filter(|miss| miss.rule == rule)
}

impl PolicyTrace {
    /// The first rule that matched.
    fn hit(&self) -> Option<Hit> {
        let rule = self.rules.iter().position(|rule| rule.matched)?;
        let policy = self.policy.clone();
        Some(Hit { policy, rule })
    }
}

fn judge(
    traces: &[PolicyTrace],
    missing: Option<&Arc<str>>,
    counts: impl Fn(&PolicyTrace) -> bool,
) -> Verdict {
    if let Some(missing) = missing {
        return Verdict::missing_policy(missing.clone());
    }
    let counted = || traces.iter().filter(|trace| counts(trace));
    if let Some(trace) = counted().find(|trace| trace.unreadable) {
        return Verdict::missing_policy(trace.policy.clone());
    }
    let with = |action| counted().filter(move |trace| trace.action == action);
    if let Some(hit) = with(PolicyAction::Deny).find_map(PolicyTrace::hit) {
        return Verdict::deny_rule(hit.policy, hit.rule);
    }
    if let Some(hit) = with(PolicyAction::Allow).find_map(PolicyTrace::hit) {
        return Verdict::allow_rule(hit.policy, hit.rule);
    }
    match with(PolicyAction::Allow).next() {
        None => Verdict::no_policy(),
        Some(trace) => Verdict::no_allow_matched(trace.policy.clone()),
    }
}

fn near_miss(traces: &[PolicyTrace]) -> Option<NearMiss> {
    let closed = traces
        .iter()
        .filter(|trace| trace.action == PolicyAction::Allow && !trace.dry_run);
    if closed.clone().any(|trace| trace.matched) {
        return None;
    }
    let rules = closed.flat_map(|trace| {
        let miss = |(rule, of): (usize, &RuleTrace)| NearMiss {
            policy: trace.policy.clone(),
            rule,
            failed: of.failed(),
        };
        trace.rules.iter().enumerate().map(miss)
    });
    rules.min_by_key(|miss| miss.failed.len())
}

impl RuleTrace {
    /// What failed, by the shortest way to a match.
    fn failed(&self) -> Vec<ConditionTrace> {
        let of = |clause: &ClauseTrace| {
            let failed = |alternative: &AlternativeTrace| -> Vec<ConditionTrace> {
                let failed = alternative
                    .conditions
                    .iter()
                    .filter(|condition| !condition.matched);
                failed.cloned().collect()
            };
            clause
                .alternatives
                .iter()
                .map(failed)
                .min_by_key(Vec::len)
                .unwrap_or_default()
        };
        self.clauses
            .iter()
            .filter(|clause| !clause.matched)
            .flat_map(of)
            .collect()
    }
}
