//! Rules that change no verdict, because of others.

use std::sync::Arc;

use super::Reach;
use crate::policy::{Hit, Policy, PolicyAction};

/// A rule that could be removed: no verdict would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// The rule.
    pub rule: Hit,
    /// The rule that matches whatever this one does.
    pub by: Hit,
    /// Whether the other denies what this one would allow; else it does the same.
    pub denied: bool,
}

/// One rule of an enforced policy.
struct Candidate<'a> {
    policy: &'a Policy,
    rule: usize,
    reach: Reach,
}

/// The enforced rules that others make redundant. `applies_wherever(a, b)` says whether policy `a` surely
/// applies to every workload to which `b` applies.
///
/// All of them can be removed together: the rule that is named beside each is none of them. Rules that never
/// match are left out.
pub fn shadowed<'a>(
    policies: impl IntoIterator<Item = &'a Arc<Policy>>,
    applies_wherever: impl Fn(&Policy, &Policy) -> bool,
) -> Vec<Shadow> {
    let mut kept: Vec<Candidate<'_>> = Vec::new();
    for policy in policies {
        let counts = policy.action != PolicyAction::Audit && !policy.dry_run && !policy.unreadable;
        for (rule, stated) in policy.rules.iter().enumerate().filter(|_| counts) {
            let reach = Reach::of(stated, policy.action);
            if !reach.is_empty() {
                kept.push(Candidate {
                    policy,
                    rule,
                    reach,
                });
            }
        }
    }
    let mut found = Vec::new();
    // From the last: of two that are equal, the later one goes.
    for at in (0..kept.len()).rev() {
        let this = &kept[at];
        let shadows = |other: &&Candidate<'_>| {
            let same = std::ptr::eq(*other, this);
            !same && applies_wherever(other.policy, this.policy) && other.shadows(this)
        };
        // A denial says more than a second way to be allowed.
        let mut by = kept.iter().filter(shadows);
        let first = by.next();
        let denies = |other: &&Candidate<'_>| other.policy.action == PolicyAction::Deny;
        let Some(by) = first.filter(denies).or_else(|| by.find(denies)).or(first) else {
            continue;
        };
        found.push(Shadow {
            rule: this.hit(),
            by: by.hit(),
            denied: by.policy.action != this.policy.action,
        });
        kept.remove(at);
    }
    found.reverse();
    found
}

impl Candidate<'_> {
    fn hit(&self) -> Hit {
        Hit {
            policy: self.policy.key().clone(),
            rule: self.rule,
        }
    }

    /// Whether it leaves nothing to `other` where both apply: it denies all that the other matches, or allows
    /// all that the other allows.
    fn shadows(&self, other: &Self) -> bool {
        let of = (self.policy.action, other.policy.action);
        let can = of != (PolicyAction::Allow, PolicyAction::Deny);
        can && other
            .reach
            .is_within(&self.policy.rules[self.rule], self.policy.action)
    }
}
