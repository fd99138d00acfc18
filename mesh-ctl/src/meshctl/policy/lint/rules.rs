//! What rules match, and what is left to them by others.

use std::sync::Arc;

use mesh_common::policy::{Policy, PolicyAction, Reach, Scope, shadowed};

use super::finding::Code;
use super::world::{POLICY, World};
use crate::model::{Action, AuthorizationPolicy, ObjectName, selects};

pub(super) fn check(world: &mut World<'_>) {
    let compiled = compiled(world);
    for (name, stated, policy) in &compiled {
        empty(world, name, stated);
        l7(world, name, stated);
        never(world, name, stated, policy);
    }
    shadows(world, &compiled);
}

type Compiled<'a> = (&'a ObjectName, &'a AuthorizationPolicy, &'a Arc<Policy>);

/// The policies that agents are sent, as stated and as sent.
fn compiled<'a>(world: &World<'a>) -> Vec<Compiled<'a>> {
    let snapshot = &world.offline.snapshot;
    let sent: std::collections::HashMap<_, _> = snapshot
        .policies()
        .map(|policy| (&**policy.key(), policy))
        .collect();
    let of = |(name, stated): (&'a ObjectName, &'a AuthorizationPolicy)| {
        let policy = sent.get(&*name.to_string())?;
        Some((name, stated, *policy))
    };
    world.policies().filter_map(of).collect()
}

fn empty(world: &mut World<'_>, name: &ObjectName, stated: &AuthorizationPolicy) {
    if !stated.rules.is_empty() {
        return;
    }
    match stated.action {
        Action::Allow => {
            let what =
                "it has no rules: it allows nothing, and what no other policy allows is denied";
            let remedy = "nothing, if that is meant; else add rules";
            world.note(Code::DenyAll, (POLICY, name), "spec.rules", what, remedy);
        }
        Action::Deny | Action::Audit | Action::Custom => {
            let what = "it has no rules, so it matches no connection";
            let remedy = "add a rule ({} matches every connection), or remove the policy";
            world.note(Code::NoRules, (POLICY, name), "spec.rules", what, remedy);
        }
    }
}

fn l7(world: &mut World<'_>, name: &ObjectName, stated: &AuthorizationPolicy) {
    let (outcome, remedy) = match stated.action {
        Action::Allow => (
            "the rule allows nothing",
            "remove the field, to allow the connections whatever is requested on them",
        ),
        Action::Deny => (
            "the rule denies whatever the rest of it matches",
            "remove the field if that is meant, else the rule",
        ),
        Action::Audit | Action::Custom => (
            "the rule reports whatever the rest of it matches",
            "remove the field",
        ),
    };
    let terms = stated
        .rules
        .iter()
        .flat_map(|rule| rule.parts.iter().flatten());
    for field in terms.flat_map(|term| &term.l7) {
        let what = format!("it is about requests (L7), which agents do not read: {outcome}");
        world.note(Code::L7Ignored, (POLICY, name), field, what, remedy);
    }
}

fn never(world: &mut World<'_>, name: &ObjectName, stated: &AuthorizationPolicy, policy: &Policy) {
    for (n, rule) in policy.rules.iter().enumerate() {
        let needs_l7 = stated.rules.get(n).is_some_and(|rule| {
            let mut terms = rule.parts.iter().flatten();
            terms.any(|term| !term.l7.is_empty())
        });
        // That is said already, field by field.
        if needs_l7 || !Reach::of(rule, policy.action).is_empty() {
            continue;
        }
        let what = "its conditions contradict each other, so no connection matches it";
        let remedy =
            "correct the conditions: all parts of a rule (from, to, each when) must hold at once";
        let field = format!("spec.rules[{n}]");
        world.note(Code::NeverMatches, (POLICY, name), field, what, remedy);
    }
}

fn shadows(world: &mut World<'_>, compiled: &[Compiled<'_>]) {
    let stated = compiled.iter().map(|(name, stated, policy)| {
        let wide = (stated.selector.as_ref(), world.is_root(&name.namespace));
        (policy.key().clone(), wide)
    });
    let stated: std::collections::HashMap<_, _> = stated.collect();
    let root = &world.offline.root_namespace;
    let applies_wherever = |wide: &Policy, narrow: &Policy| {
        if wide.scope == Scope::Global {
            return true;
        }
        let same = wide.namespace == narrow.namespace;
        let of_root = *wide.namespace == *root;
        if !same && (wide.scope == Scope::Namespace || !of_root) {
            return false;
        }
        let (Some((of_wide, everywhere)), Some((of_narrow, narrow_everywhere))) =
            (stated.get(wide.key()), stated.get(narrow.key()))
        else {
            return false;
        };
        // A selecting policy of the root namespace is for pods of all others as well.
        let reaches = *everywhere || (same && !*narrow_everywhere);
        let selected = match (of_wide, of_narrow) {
            (None, _) => true,
            (Some(wide), Some(narrow)) => selects(wide, narrow),
            (Some(_), None) => false,
        };
        reaches && selected
    };
    let shadows = shadowed(
        compiled.iter().map(|(_, _, policy)| *policy),
        applies_wherever,
    );
    for shadow in shadows {
        let Some((name, _, policy)) = compiled
            .iter()
            .find(|(_, _, p)| *p.key() == shadow.rule.policy)
        else {
            continue;
        };
        let by = match shadow.by.policy == shadow.rule.policy {
            true => format!("rule {} of the same policy", shadow.by.rule),
            false => format!("{} rule {}", shadow.by.policy, shadow.by.rule),
        };
        let (code, what, remedy) = match (shadow.denied, policy.action) {
            (true, _) => (
                Code::UnreachableRule,
                format!("every connection that it allows is denied by {by}"),
                "narrow the DENY rule, or remove this one",
            ),
            (false, PolicyAction::Allow) => (
                Code::ShadowedRule,
                format!("every connection that it allows is allowed by {by} as well"),
                "remove it, or narrow the other",
            ),
            (false, _) => (
                Code::ShadowedRule,
                format!("every connection that it denies is denied by {by} as well"),
                "remove it, or narrow the other",
            ),
        };
        let field = format!("spec.rules[{}]", shadow.rule.rule);
        world.note(code, (POLICY, name), field, what, remedy);
    }
}
