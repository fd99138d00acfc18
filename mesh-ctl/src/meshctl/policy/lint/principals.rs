//! Who rules name: principals, namespaces and service accounts that are not there.

use std::collections::BTreeSet;

use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{Match, ServiceAccountMatch, StringMatch};
use mesh_common::suggest;

use super::finding::Code;
use super::world::{POLICY, World};
use crate::model::ObjectName;

pub(super) fn check(world: &mut World<'_>) {
    let objects = &world.offline.objects;
    if objects.pods.is_empty() && objects.service_accounts.is_empty() {
        if !objects.authorization_policies.is_empty() {
            world.note_directory(
                Code::NotChecked,
                "there are neither pods nor service accounts, so who and what policies name is not checked",
                "add what `kubectl get namespaces,serviceaccounts,pods,services -A -o yaml` prints",
            );
        }
        return;
    }
    let known = Known {
        principals: world.principals(),
        with_accounts: with_accounts(world),
    };
    for (name, policy) in world.policies() {
        for (n, rule) in policy.rules.iter().enumerate() {
            for (part, terms) in rule.parts.iter().enumerate() {
                for (term, of) in terms.iter().enumerate() {
                    let field = format!("spec.rules[{n}].{}", rule.field(part, term));
                    let names = Names::of(&field, &of.l4);
                    names.check(world, &known, name);
                }
            }
        }
    }
}

struct Known {
    principals: Vec<String>,
    /// Namespaces of which some pod or service account is there, so that a missing one is a finding.
    with_accounts: BTreeSet<String>,
}

fn with_accounts(world: &World<'_>) -> BTreeSet<String> {
    let objects = &world.offline.objects;
    let pods = objects.pods.keys().map(|name| name.namespace.to_string());
    let stated = objects.service_accounts.iter();
    pods.chain(stated.map(|name| name.namespace.to_string()))
        .collect()
}

/// The names in one term, each with its field.
struct Names<'m> {
    principals: Vec<(String, &'m StringMatch)>,
    namespaces: Vec<(String, &'m StringMatch)>,
    accounts: Vec<(String, &'m ServiceAccountMatch)>,
}

impl<'m> Names<'m> {
    fn of(field: &str, m: &'m Match) -> Self {
        let is_condition = field.contains(".when[");
        // A condition has values and notValues, a source a list for each field.
        let path = |list: &str, none: &str, negated: bool, n: usize| match (is_condition, negated) {
            (true, false) => format!("{field}.values[{n}]"),
            (true, true) => format!("{field}.notValues[{n}]"),
            (false, false) => format!("{field}.{list}[{n}]"),
            (false, true) => format!("{field}.{none}[{n}]"),
        };
        fn listed<'m, T>(
            lists: [&'m [T]; 2],
            path: impl Fn(bool, usize) -> String,
        ) -> Vec<(String, &'m T)> {
            let one = |negated: bool, list: &'m [T]| {
                let entries = list.iter().enumerate();
                let entries = entries.map(|(n, entry)| (path(negated, n), entry));
                entries.collect::<Vec<_>>()
            };
            [one(false, lists[0]), one(true, lists[1])].concat()
        }
        Self {
            principals: listed([&m.principals, &m.not_principals], |negated, n| {
                path("principals", "notPrincipals", negated, n)
            }),
            namespaces: listed([&m.namespaces, &m.not_namespaces], |negated, n| {
                path("namespaces", "notNamespaces", negated, n)
            }),
            accounts: listed(
                [&m.service_accounts, &m.not_service_accounts],
                |negated, n| path("serviceAccounts", "notServiceAccounts", negated, n),
            ),
        }
    }

    fn check(&self, world: &mut World<'_>, known: &Known, policy: &ObjectName) {
        for (field, namespace) in &self.namespaces {
            self::namespace(world, policy, field, namespace);
        }
        for (field, account) in &self.accounts {
            let (namespace, name) = (&account.namespace, &account.service_account);
            self::account(world, known, policy, field, namespace, name);
        }
        for (field, principal) in &self.principals {
            self::principal(world, known, policy, field, principal);
        }
    }
}

fn namespace(world: &mut World<'_>, policy: &ObjectName, field: &str, stated: &StringMatch) {
    let Some(pattern) = &stated.match_type else {
        return;
    };
    if world.namespaces.iter().any(|name| matches(pattern, name)) {
        return;
    }
    unknown_namespace(world, policy, field, &text(pattern), pattern);
}

fn unknown_namespace(
    world: &mut World<'_>,
    policy: &ObjectName,
    field: &str,
    shown: &str,
    pattern: &MatchType,
) {
    let what = match pattern {
        MatchType::Exact(_) => format!("there is no namespace {shown}"),
        _ => format!("no namespace matches {shown}"),
    };
    let names = world.namespaces.iter().copied();
    let remedy = corrected(shown, names, "add the namespace");
    world.note(
        Code::UnknownNamespace,
        (POLICY, policy),
        field,
        what,
        remedy,
    );
}

fn account(
    world: &mut World<'_>,
    known: &Known,
    policy: &ObjectName,
    field: &str,
    namespace: &str,
    name: &str,
) {
    if world.accounts.contains(&(namespace, name)) {
        return;
    }
    if !world.namespaces.contains(namespace) {
        let pattern = MatchType::Exact(namespace.to_owned());
        unknown_namespace(world, policy, field, namespace, &pattern);
        return;
    }
    if !known.with_accounts.contains(namespace) {
        return;
    }
    let own = world.accounts.iter().filter(|(of, _)| *of == namespace);
    let names: Vec<_> = own.map(|(_, name)| *name).collect();
    let what = format!("there is no service account {namespace}/{name}, and no pod runs as it");
    let remedy = corrected(name, names.iter().copied(), "add the service account");
    world.note(
        Code::UnknownServiceAccount,
        (POLICY, policy),
        field,
        what,
        remedy,
    );
}

fn principal(
    world: &mut World<'_>,
    known: &Known,
    policy: &ObjectName,
    field: &str,
    stated: &StringMatch,
) {
    let Some(pattern) = &stated.match_type else {
        return;
    };
    let at = (POLICY, policy);
    let shown = text(pattern);
    if !is_possible(pattern) {
        let what = format!(
            "no principal can match {shown}: they are TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT"
        );
        let remedy = "correct the pattern";
        world.note(Code::MalformedPrincipal, at, field, what, remedy);
        return;
    }
    if let Some(domain) = foreign(world, pattern) {
        let what = format!(
            "{domain} is no name of this mesh's trust domain {}",
            world.mesh.trust_domain
        );
        let remedy = format!(
            "write {}, or give --trust-domain or --trust-domain-alias as the controller has it",
            world.mesh.trust_domain
        );
        world.note(Code::ForeignTrustDomain, at, field, what, remedy);
        return;
    }
    match pattern {
        MatchType::Exact(exact) => {
            let parts: Vec<_> = exact.split('/').collect();
            if let [_, "ns", namespace, "sa", name] = parts[..] {
                account(world, known, policy, field, namespace, name);
            }
        }
        MatchType::Prefix(_) | MatchType::Suffix(_) => {
            if !known
                .principals
                .iter()
                .any(|principal| matches(pattern, principal))
            {
                let what =
                    format!("{shown} matches the principal of no service account that is there");
                let remedy = "correct the pattern, or add the service account";
                world.note(Code::UnknownPrincipal, at, field, what, remedy);
            }
        }
        MatchType::Presence(()) => {}
    }
}

/// The trust domain that the pattern names, if it is whole and none of the mesh's.
fn foreign<'p>(world: &World<'_>, pattern: &'p MatchType) -> Option<&'p str> {
    let (MatchType::Exact(text) | MatchType::Prefix(text)) = pattern else {
        return None;
    };
    let (domain, _) = text.split_once('/')?;
    let own = world.trust_domains().any(|name| name == domain);
    (!own).then_some(domain)
}

/// Whether some principal has this form. The values themselves are not looked at.
fn is_possible(pattern: &MatchType) -> bool {
    let shape = ["", "ns", "", "sa", ""];
    // A segment that must be whole, and one that is cut.
    let whole = |segment: &str, wanted: &str| match wanted {
        "" => !segment.is_empty(),
        fixed => segment == fixed,
    };
    match pattern {
        MatchType::Exact(_) | MatchType::Presence(()) => true,
        MatchType::Prefix(text) => {
            let segments: Vec<_> = text.split('/').collect();
            let Some((last, before)) = segments.split_last() else {
                return true;
            };
            let fits = before.iter().zip(shape).all(|(s, wanted)| whole(s, wanted));
            let cut = shape.get(before.len());
            cut.is_some_and(|wanted| wanted.is_empty() || wanted.starts_with(last)) && fits
        }
        MatchType::Suffix(text) => {
            let mut segments: Vec<_> = text.split('/').collect();
            segments.reverse();
            let shape: Vec<_> = shape.into_iter().rev().collect();
            let Some((first, behind)) = segments.split_last() else {
                return true;
            };
            let fits = behind
                .iter()
                .zip(&shape)
                .all(|(s, wanted)| whole(s, wanted));
            let cut = shape.get(behind.len());
            cut.is_some_and(|wanted| wanted.is_empty() || wanted.ends_with(first)) && fits
        }
    }
}

fn matches(pattern: &MatchType, value: &str) -> bool {
    match pattern {
        MatchType::Exact(text) => value == text,
        MatchType::Prefix(text) => value.starts_with(text.as_str()),
        MatchType::Suffix(text) => value.ends_with(text.as_str()),
        MatchType::Presence(()) => true,
    }
}

/// As policies write it.
fn text(pattern: &MatchType) -> String {
    match pattern {
        MatchType::Exact(text) => text.clone(),
        MatchType::Prefix(text) => format!("{text}*"),
        MatchType::Suffix(text) => format!("*{text}"),
        MatchType::Presence(()) => "*".to_owned(),
    }
}

/// What to do about a name: another one was meant, or it is still to come.
fn corrected<'n>(name: &str, names: impl Iterator<Item = &'n str>, add: &str) -> String {
    match suggest::nearest(name, names) {
        Some(nearest) => format!("did you mean {nearest}? Correct it, or {add}"),
        None => format!("correct it, or {add}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_no_principal_has_is_told() {
        let prefix = |text: &str| is_possible(&MatchType::Prefix(text.into()));
        let suffix = |text: &str| is_possible(&MatchType::Suffix(text.into()));
        for good in [
            "",
            "td",
            "td/",
            "td/n",
            "td/ns/",
            "td/ns/shop/sa/w",
            "td/ns/shop/s",
        ] {
            assert!(prefix(good), "{good}");
        }
        for bad in [
            "/ns",
            "td/sa/",
            "td/ns//",
            "td/ns/shop/x",
            "td/ns/shop/sa/web/",
            "td/nsx",
        ] {
            assert!(!prefix(bad), "{bad}");
        }
        for good in [
            "",
            "web",
            "/web",
            "sa/web",
            "a/web",
            "/ns/shop/sa/web",
            "op/sa/web",
            ".local/ns/a/sa/b",
        ] {
            assert!(suffix(good), "{good}");
        }
        for bad in [
            "web/",
            "/sb/web",
            "ns/sa/web/x",
            "x/td/ns/shop/sa/web",
            "//sa/web",
        ] {
            assert!(!suffix(bad), "{bad}");
        }
    }
}
