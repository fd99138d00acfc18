//! AuthorizationPolicy -> Authorization.
//!
//! What cannot be checked at L4 fails closed: an ALLOW rule that needs it never matches (the policy
//! stays, so it still denies what no rule allows); a DENY rule is enforced on its L4 part.

use std::sync::Arc;

use mesh_common::proto::security::{
    Action as WireAction, Authorization, Clause, Match, Rule as WireRule, Scope,
};
use prost::Message;

use super::store::{Pod, Store};
use super::{Options, aliases};
use crate::model::{Action, AuthorizationPolicy, Labels, ObjectName, Rule, Term};
use crate::resources::{Kind, Resource};

/// The namespace whose pods a policy of that name may select; `None` when it is all of them.
pub(super) fn reach<'a>(name: &'a ObjectName, options: &Options) -> Option<&'a str> {
    (*name.namespace != *options.root_namespace).then_some(&*name.namespace)
}

/// The selector of a policy that the workloads it selects must list.
pub(super) fn listed_by(policy: &AuthorizationPolicy) -> Option<&Labels> {
    action(policy).ok()?;
    policy.selector.as_ref()
}

/// The names of the policies that the pod lists.
pub(super) fn listed(pod: &Pod, store: &Store) -> Vec<String> {
    let own = store
        .policy_selectors
        .candidates(&pod.name.namespace, &pod.labels);
    let of_mesh = store.policy_selectors.candidates("", &pod.labels);
    let is_for = |name: &&ObjectName| {
        let policy = store.authorization_policies.get(*name);
        let selector = policy.and_then(listed_by);
        selector.is_some_and(|selector| pod.is_selected(selector))
    };
    let listed = own.into_iter().chain(of_mesh).filter(is_for);
    listed.map(ToString::to_string).collect()
}

/// The policy that nodes enforce, by its key, and what of it they cannot.
pub(super) fn compile(
    name: &ObjectName,
    store: &Store,
    options: &Options,
) -> (Arc<str>, Option<Resource>, Vec<String>) {
    let key: Arc<str> = name.to_string().into();
    let Some(policy) = store.authorization_policies.get(name) else {
        return (key, None, Vec::new());
    };
    let object = store.describe("AuthorizationPolicy", name);
    let action = match action(policy) {
        Ok(action) => action,
        Err(why) => {
            let line = format!("{object}: field spec.{why}; the policy is not enforced");
            return (key, None, vec![line]);
        }
    };
    let scope = match (&policy.selector, reach(name, options)) {
        (Some(_), _) => Scope::WorkloadSelector,
        (None, None) => Scope::Global,
        (None, Some(_)) => Scope::Namespace,
    };
    let mut warnings = Vec::new();
    let authorization = Authorization {
        name: name.name.to_string(),
        namespace: name.namespace.to_string(),
        scope: scope.into(),
        action: action.into(),
        rules: aliases::expand(rules(policy, &object, action, &mut warnings), options),
        dry_run: policy.dry_run,
        ..Authorization::default()
    };
    let authorization = match policy.action {
        Action::Audit => authorization.into_audit(),
        _ => authorization,
    };
    let resource = encode(&key, &authorization);
    (key, Some(resource), warnings)
}

pub(super) fn encode(key: &str, authorization: &Authorization) -> Resource {
    let body = authorization.encode_to_vec();
    Resource::new(Kind::Authorization, key, body, Vec::new())
}

/// What nodes do with the policy, or why it is not for them.
fn action(policy: &AuthorizationPolicy) -> Result<WireAction, &'static str> {
    match policy.action {
        _ if policy.has_target => {
            Err("targetRefs: is attached to a waypoint, which Weft does not run yet")
        }
        Action::Allow => Ok(WireAction::Allow),
        // AUDIT is a DENY policy without effect, to which the rules to report are attached.
        Action::Deny | Action::Audit => Ok(WireAction::Deny),
        Action::Custom => Err("action: is CUSTOM, which needs an external authorizer"),
    }
}

fn rules(
    policy: &AuthorizationPolicy,
    object: &str,
    action: WireAction,
    warnings: &mut Vec<String>,
) -> Vec<WireRule> {
    let mut rules = Vec::new();
    for rule in &policy.rules {
        for field in rule.parts.iter().flatten().flat_map(|term| &term.l7) {
            let outcome = match action {
                WireAction::Allow => "the rule never matches",
                WireAction::Deny if policy.action == Action::Audit => {
                    "the rule reports whatever its L4 part matches"
                }
                WireAction::Deny => "the rule denies whatever its L4 part matches",
            };
            warnings.push(format!(
                "{object}: field {field}: needs L7, which is not read here; {outcome}"
            ));
        }
        let needs_l7 = rule.parts.iter().flatten().any(|term| !term.l7.is_empty());
        rules.push(match action {
            WireAction::Allow if needs_l7 => never(),
            _ => l4_part(rule),
        });
    }
    rules
}

/// Keeps the place of a rule that must not allow, so that the rules after it are known by the number they
/// have in the policy: nodes never match a clause whose only alternative states no condition.
fn never() -> WireRule {
    WireRule {
        clauses: vec![Clause {
            matches: vec![Match::default()],
        }],
    }
}

/// A part with an alternative that L4 cannot narrow always matches, so it is left out: on the wire,
/// an alternative with no condition would be skipped.
fn l4_part(rule: &Rule) -> WireRule {
    let narrows = |part: &&Vec<Term>| part.iter().all(|term| term.l4 != Match::default());
    let clause = |part: &Vec<Term>| Clause {
        matches: part.iter().map(|t| t.l4.clone()).collect(),
    };
    WireRule {
        clauses: rule.parts.iter().filter(narrows).map(clause).collect(),
    }
}
