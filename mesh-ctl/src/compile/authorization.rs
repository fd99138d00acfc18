//! AuthorizationPolicy -> Authorization.
//!
//! What cannot be checked at L4 fails closed: an ALLOW rule that needs it never matches (the policy
//! stays, so it still denies what no rule allows); a DENY rule is enforced on its L4 part.

use std::sync::Arc;

use mesh_common::proto::security::{
    Action as WireAction, Authorization, Clause, Match, Rule as WireRule, Scope,
};
use prost::Message;

use super::{Listed, Options, aliases};
use crate::model::{Action, AuthorizationPolicy, Objects, Rule, Term, selects};
use crate::resources::{Compiled, Resource};

pub(super) fn compile(objects: &Objects, options: &Options, out: &mut Compiled) -> Vec<Listed> {
    let mut listed = Vec::new();
    for policy in objects.authorization_policies.values() {
        let object = objects.describe("AuthorizationPolicy", &policy.meta.name);
        let Some(action) = action(policy, &object, out) else {
            continue;
        };
        let of_root = *policy.meta.name.namespace == *options.root_namespace;
        let scope = match &policy.selector {
            Some(_) => Scope::WorkloadSelector,
            None if of_root => Scope::Global,
            None => Scope::Namespace,
        };
        let key: Arc<str> = policy.meta.name.to_string().into();
        if let Some(selector) = policy.selector.clone() {
            let namespace = (!of_root).then(|| Arc::clone(&policy.meta.name.namespace));
            listed.push(Listed {
                key: Arc::clone(&key),
                selects: Box::new(move |pod| {
                    let here = namespace
                        .as_ref()
                        .is_none_or(|ns| *ns == pod.meta.name.namespace);
                    here && selects(&selector, &pod.meta.labels)
                }),
            });
        }
        let authorization = Authorization {
            name: policy.meta.name.name.to_string(),
            namespace: policy.meta.name.namespace.to_string(),
            scope: scope.into(),
            action: action.into(),
            rules: aliases::expand(rules(policy, &object, action, out), options),
            dry_run: policy.dry_run,
            ..Authorization::default()
        };
        insert(out, &key, &authorization);
    }
    listed
}

pub(super) fn insert(out: &mut Compiled, key: &Arc<str>, authorization: &Authorization) {
    let resource = Resource::new(key, authorization.encode_to_vec(), Vec::new());
    out.policies.insert(Arc::clone(key), resource);
}

/// What nodes do with the policy; `None` (with a warning) when it is not for them.
fn action(policy: &AuthorizationPolicy, object: &str, out: &mut Compiled) -> Option<WireAction> {
    let (field, what) = match policy.action {
        _ if policy.has_target => (
            "targetRefs",
            "is attached to a waypoint, which Weft does not run yet",
        ),
        Action::Allow => return Some(WireAction::Allow),
        Action::Deny => return Some(WireAction::Deny),
        Action::Audit => ("action", "is AUDIT, which only writes logs"),
        Action::Custom => ("action", "is CUSTOM, which needs an external authorizer"),
    };
    out.warnings.insert(format!(
        "{object}: field spec.{field}: {what}; the policy is not enforced"
    ));
    None
}

fn rules(
    policy: &AuthorizationPolicy,
    object: &str,
    action: WireAction,
    out: &mut Compiled,
) -> Vec<WireRule> {
    let mut rules = Vec::new();
    for rule in &policy.rules {
        for field in rule.parts.iter().flatten().flat_map(|term| &term.l7) {
            let outcome = match action {
                WireAction::Allow => "the rule never matches",
                WireAction::Deny => "the rule denies whatever its L4 part matches",
            };
            out.warnings.insert(format!(
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
