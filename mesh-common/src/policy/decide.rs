//! The decision, from the compiled groups. It does not allocate.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::group::{Counted, Group};
use super::keys::{Kinds, Values};
use super::{Connection, PolicyAction, PolicySet, Verdict};

/// Judges a connection by the policies of its destination.
///
/// In this order: a policy that is named but missing, or unreadable, denies; a DENY policy that matches
/// denies; without any ALLOW policy the connection is allowed; an ALLOW policy that matches allows; all
/// else is denied. AUDIT policies and those in dry run do not count: see [`report`].
pub fn decide(policies: &PolicySet<'_>, conn: &Connection<'_>) -> Verdict {
    let conn = &conn.canonical();
    judge(policies, conn, &values(policies, conn), Counted::Enforced)
}

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Hit {
    /// Its policy, `namespace/name`.
    pub policy: Arc<str>,
    /// Its number in the policy, counted from 0.
    pub rule: usize,
}

/// What policies say that enforce nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Reports {
    /// The first rule of each AUDIT policy that matched.
    pub audit: Vec<Hit>,
    /// The verdict if policies in dry run were enforced; none when none of them applies.
    pub dry_run: Option<Verdict>,
}

/// What AUDIT policies and policies in dry run say of a connection. It costs nothing where none applies.
#[must_use]
pub fn report(policies: &PolicySet<'_>, conn: &Connection<'_>) -> Reports {
    if !policies.reports() {
        return Reports::default();
    }
    let conn = &conn.canonical();
    let values = &values(policies, conn);
    let mut reports = Reports::default();
    for group in policies.groups() {
        for (policy, rule) in group.audited(conn, values) {
            let policy = policy.key.clone();
            if reports.audit.iter().all(|hit| hit.policy != policy) {
                reports.audit.push(Hit { policy, rule });
            }
        }
    }
    if policies.groups().any(Group::has_dry_run) {
        reports.dry_run = Some(judge(policies, conn, values, Counted::WithDryRun));
    }
    reports
}

fn values(policies: &PolicySet<'_>, conn: &Connection<'_>) -> Values {
    let kinds = policies.groups().map(Group::kinds);
    Values::of(conn, kinds.fold(Kinds::default(), Kinds::union))
}

fn judge(
    policies: &PolicySet<'_>,
    conn: &Connection<'_>,
    values: &Values,
    counted: Counted,
) -> Verdict {
    if let Some(missing) = policies.missing() {
        return Verdict::missing_policy(missing.clone());
    }
    if let Some(policy) = policies
        .groups()
        .find_map(|group| group.unreadable(counted))
    {
        return Verdict::missing_policy(policy.key.clone());
    }
    let first = |action| {
        policies
            .groups()
            .find_map(|group| group.first(action, counted, conn, values))
    };
    if let Some((policy, rule)) = first(PolicyAction::Deny) {
        return Verdict::deny_rule(policy.key.clone(), rule);
    }
    let Some(closed) = policies
        .groups()
        .find_map(|group| group.first_allow(counted))
    else {
        return Verdict::no_policy();
    };
    match first(PolicyAction::Allow) {
        Some((policy, rule)) => Verdict::allow_rule(policy.key.clone(), rule),
        None => Verdict::no_allow_matched(closed.key.clone()),
    }
}
