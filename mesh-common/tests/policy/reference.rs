//! The decision as it is documented, written down once more and as plainly as possible: every policy, rule,
//! clause and condition is looked at, in the wire form, and nothing is prepared, indexed or skipped.

use mesh_common::identity::SpiffeId;
use mesh_common::policy::Connection;
use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{
    Action, Address, Authorization, Match, Rule, Scope, StringMatch,
};
use std::net::IpAddr;

/// A policy, and whether it is AUDIT, for which the wire has no action.
#[derive(Clone, Debug)]
pub(crate) struct Stated {
    pub(crate) policy: Authorization,
    pub(crate) audit: bool,
}

impl Stated {
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.policy.namespace, self.policy.name)
    }

    /// As the controller sends it.
    pub(crate) fn sent(&self) -> Authorization {
        match self.audit {
            true => self.policy.clone().into_audit(),
            false => self.policy.clone(),
        }
    }
}

/// What is expected: whether it is allowed, and the policy and the rule that decided.
pub(crate) type Expected = (bool, Option<(String, Option<usize>)>);

/// The policies of a workload: those of the mesh, of its namespace, and those it lists, by name within each.
pub(crate) fn applying<'a>(
    policies: &'a [Stated],
    namespace: &str,
    listed: &[String],
) -> Vec<&'a Stated> {
    let mut found: Vec<(usize, String, &Stated)> = Vec::new();
    for stated in policies {
        let tier = match stated.policy.scope() {
            Scope::Global => 0,
            Scope::Namespace if stated.policy.namespace == namespace => 1,
            _ if listed.contains(&stated.key()) => 2,
            _ => continue,
        };
        found.push((tier, stated.key(), stated));
    }
    found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    found.into_iter().map(|(_, _, stated)| stated).collect()
}

/// The verdict; with `dry_run`, as if policies in dry run were enforced.
pub(crate) fn verdict(
    policies: &[Stated],
    namespace: &str,
    listed: &[String],
    conn: &Connection<'_>,
    dry_run: bool,
) -> Expected {
    let mut missing: Vec<_> = listed
        .iter()
        .filter(|key| policies.iter().all(|p| p.key() != **key))
        .collect();
    missing.sort();
    if let Some(key) = missing.first() {
        return (false, Some(((*key).clone(), None)));
    }
    let mut applying = applying(policies, namespace, listed);
    applying.retain(|stated| !stated.audit && (dry_run || !stated.policy.dry_run));
    let of = |action| {
        applying
            .iter()
            .filter(move |stated| stated.policy.action() == action)
    };
    for stated in of(Action::Deny) {
        if let Some(rule) = first_rule(stated, conn) {
            return (false, Some((stated.key(), Some(rule))));
        }
    }
    for stated in of(Action::Allow) {
        if let Some(rule) = first_rule(stated, conn) {
            return (true, Some((stated.key(), Some(rule))));
        }
    }
    match of(Action::Allow).next() {
        None => (true, None),
        Some(stated) => (false, Some((stated.key(), None))),
    }
}

/// The AUDIT policies that report the connection, with the rule of each.
pub(crate) fn audits(applying: &[&Stated], conn: &Connection<'_>) -> Vec<(String, usize)> {
    let audits = applying.iter().filter(|stated| stated.audit);
    audits
        .filter_map(|stated| Some((stated.key(), first_rule(stated, conn)?)))
        .collect()
}

fn first_rule(stated: &Stated, conn: &Connection<'_>) -> Option<usize> {
    let unknown = stated.audit || stated.policy.action() == Action::Deny;
    stated
        .policy
        .rules
        .iter()
        .position(|rule| rule_matches(rule, conn, unknown))
}

/// `unknown` is what a condition amounts to that is not understood.
fn rule_matches(rule: &Rule, conn: &Connection<'_>, unknown: bool) -> bool {
    for clause in &rule.clauses {
        let mut one = clause.matches.is_empty() && unknown;
        for m in &clause.matches {
            one |= match understood(m) {
                true => match_matches(m, conn),
                false => unknown,
            };
        }
        if !one {
            return false;
        }
    }
    true
}

fn understood(m: &Match) -> bool {
    let strings = [
        &m.principals,
        &m.not_principals,
        &m.namespaces,
        &m.not_namespaces,
    ];
    let accounts = [&m.service_accounts, &m.not_service_accounts];
    *m != Match::default()
        && m.extensions.is_empty()
        && strings
            .into_iter()
            .flatten()
            .all(|s| s.match_type.is_some())
        && accounts
            .into_iter()
            .flatten()
            .all(|a| !a.namespace.is_empty() && !a.service_account.is_empty())
}

fn match_matches(m: &Match, conn: &Connection<'_>) -> bool {
    let principal = conn
        .principal
        .map(|id| id.as_str().trim_start_matches("spiffe://").to_owned());
    let namespace = conn.principal.map(|id| id.namespace().to_owned());
    let account = |a: &mesh_common::proto::security::ServiceAccountMatch| {
        conn.principal.is_some_and(|id: &SpiffeId| {
            id.namespace() == a.namespace && id.service_account() == a.service_account
        })
    };
    let port = u32::from(conn.destination.port());
    ok(&m.principals, &m.not_principals, |s| {
        string(s, principal.as_deref())
    }) && ok(&m.namespaces, &m.not_namespaces, |s| {
        string(s, namespace.as_deref())
    }) && ok(&m.service_accounts, &m.not_service_accounts, account)
        && ok(&m.source_ips, &m.not_source_ips, |b| {
            block(b, conn.source.ip())
        })
        && ok(&m.destination_ips, &m.not_destination_ips, |b| {
            block(b, conn.destination.ip())
        })
        && ok(&m.destination_ports, &m.not_destination_ports, |p| {
            *p == port
        })
}

fn ok<T>(any: &[T], none: &[T], holds: impl Fn(&T) -> bool) -> bool {
    let listed = any.is_empty() || any.iter().any(&holds);
    let excluded = none.iter().any(&holds);
    listed && !excluded
}

fn string(m: &StringMatch, value: Option<&str>) -> bool {
    let (Some(value), Some(kind)) = (value, &m.match_type) else {
        return false;
    };
    match kind {
        MatchType::Exact(text) => value == text,
        MatchType::Prefix(text) => value.starts_with(text.as_str()),
        MatchType::Suffix(text) => value.ends_with(text.as_str()),
        MatchType::Presence(()) => true,
    }
}

/// Compares bit by bit. An IPv4 address is the same written inside IPv6, and so is an IPv4 block.
fn block(block: &Address, ip: IpAddr) -> bool {
    let bits = |bytes: &[u8]| -> Vec<bool> {
        let of = |byte: &u8| (0..8).rev().map(|n| byte >> n & 1 == 1).collect::<Vec<_>>();
        bytes.iter().flat_map(of).collect()
    };
    let ip = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (mut address, mut length) = (&block.address[..], block.length as usize);
    if let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, v4 @ ..] = address
        && length >= 96
    {
        (address, length) = (v4, length - 96);
    }
    ip.len() == address.len()
        && bits(&ip)
            .iter()
            .zip(bits(address))
            .take(length)
            .all(|(a, b)| *a == b)
}
