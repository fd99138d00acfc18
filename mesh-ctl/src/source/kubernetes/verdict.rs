//! Whether each policy is enforced as it was written, and why not: what its status says.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::held::Taken;
use crate::model::{Action, AuthorizationPolicy, Change, Object, ObjectName};

/// Kind and name.
pub(super) type PolicyKey = (&'static str, ObjectName);

/// What came of one version of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The version of the policy's `spec` that was judged.
    pub(super) generation: i64,
    /// Why it is not enforced as it was written: one word for programs, and a line for people. `None` when
    /// it is.
    pub(super) finding: Option<(&'static str, String)>,
}

/// The verdicts on all policies; clones share them.
#[derive(Clone)]
pub(super) struct Verdicts(Arc<watch::Sender<BTreeMap<PolicyKey, Verdict>>>);

impl Default for Verdicts {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }
}

impl Verdicts {
    /// Follows them.
    pub(super) fn subscribe(&self) -> watch::Receiver<BTreeMap<PolicyKey, Verdict>> {
        self.0.subscribe()
    }

    /// Judges a version of a policy that was just taken in.
    pub(super) fn judge(
        &self,
        kind: &'static str,
        name: &ObjectName,
        generation: i64,
        taken: &Taken,
    ) {
        let finding = match (&taken.problem, &taken.change) {
            (Some(problem), _) => {
                Some(("Invalid", format!("{}; {}", problem.text, problem.instead)))
            }
            (None, Some(Change::Set(Object::AuthorizationPolicy(policy)))) => shortfall(policy),
            (None, Some(_)) => None,
            // A version that is known already.
            (None, None) => return,
        };
        let verdict = Verdict {
            generation,
            finding,
        };
        let key = (kind, name.clone());
        self.0
            .send_if_modified(|all| all.insert(key, verdict.clone()).as_ref() != Some(&verdict));
    }

    /// These are gone.
    pub(super) fn forget(&self, gone: &[Change]) {
        for change in gone {
            if let Change::Removed(kind, name) = change {
                let key = (*kind, name.clone());
                self.0.send_if_modified(|all| all.remove(&key).is_some());
            }
        }
    }
}

/// What of a valid policy is not enforced.
fn shortfall(policy: &AuthorizationPolicy) -> Option<(&'static str, String)> {
    let not_enforced = |message: &str| Some(("NotEnforced", message.to_owned()));
    let outcome = match policy.action {
        _ if policy.has_target => {
            return not_enforced(
                "field spec.targetRefs: is for a waypoint, which Weft does not run",
            );
        }
        Action::Custom => {
            return not_enforced(
                "field spec.action: CUSTOM needs an external authorizer, which Weft does not call",
            );
        }
        Action::Allow => "a rule with it never matches, so it allows nothing",
        Action::Deny => "a rule with it denies whatever the rest of the rule matches",
        Action::Audit => "a rule with it reports whatever the rest of the rule matches",
    };
    let terms = policy.rules.iter().flat_map(|rule| &rule.parts).flatten();
    let fields: Vec<&str> = terms
        .flat_map(|term| &term.l7)
        .map(String::as_str)
        .collect();
    if fields.is_empty() {
        return None;
    }
    let message = format!(
        "only what is seen at L4 is checked, and this is not: {}; {outcome}",
        fields.join(", ")
    );
    Some(("PartlyEnforced", message))
}
