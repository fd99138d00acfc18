//! From the wire form of a policy to [`Policy`].
//!
//! Values that are wrong (an address of 3 bytes, port 70000) are errors. Conditions that are unknown
//! (an extension, a new kind of string match, an empty alternative) are kept as not understood, so that
//! the decision fails closed.

use ipnet::IpNet;
use std::sync::Arc;

use super::matches::{Clause, Match, Rule, ServiceAccountMatch, StringMatch};
use super::{Policy, PolicyAction, Scope, audit};
use crate::decode::{self, DecodeError, FieldError};
use crate::proto::security as wire;

impl TryFrom<wire::Authorization> for Policy {
    type Error = DecodeError;

    fn try_from(from: wire::Authorization) -> Result<Self, DecodeError> {
        let object = format!("policy \"{}/{}\"", from.namespace, from.name);
        decode_policy(&from).map_err(|e| e.of(object))
    }
}

impl Policy {
    /// Stands in for a policy that cannot be read and has no earlier version: it denies wherever it
    /// applies. `from` is what could be read of it; without it, or when its scope is unknown, it applies
    /// to the namespace in `key`.
    #[must_use]
    pub fn unreadable(key: &str, from: Option<&wire::Authorization>) -> Self {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let scope = from
            .and_then(|p| scope(p.scope).ok())
            .unwrap_or(Scope::Namespace);
        Self {
            name: name.into(),
            namespace: namespace.into(),
            scope,
            action: PolicyAction::Deny,
            rules: Vec::new(),
            dry_run: from.is_some_and(|p| p.dry_run),
            unreadable: true,
            key: key.into(),
        }
    }
}

fn scope(value: i32) -> Result<Scope, FieldError> {
    Ok(match decode::known(value, "scope")? {
        wire::Scope::Global => Scope::Global,
        wire::Scope::Namespace => Scope::Namespace,
        wire::Scope::WorkloadSelector => Scope::Selector,
    })
}

fn decode_policy(from: &wire::Authorization) -> Result<Policy, FieldError> {
    let namespace = decode::not_empty(&from.namespace, "namespace")?;
    let name = decode::not_empty(&from.name, "name")?;
    let audited = audit::rules(from)?;
    let action = match decode::known(from.action, "action")? {
        _ if audited.is_some() => PolicyAction::Audit,
        wire::Action::Allow => PolicyAction::Allow,
        wire::Action::Deny => PolicyAction::Deny,
    };
    let stated = audited.as_ref().unwrap_or(&from.rules);
    let mut rules = Vec::with_capacity(stated.len());
    for (i, rule) in stated.iter().enumerate() {
        rules.push(decode_rule(rule).map_err(|e| e.inside(format_args!("rules[{i}]")))?);
    }
    Ok(Policy {
        name: name.into(),
        namespace: namespace.into(),
        scope: scope(from.scope)?,
        action,
        rules,
        dry_run: from.dry_run,
        unreadable: false,
        key: format!("{namespace}/{name}").into(),
    })
}

fn decode_rule(from: &wire::Rule) -> Result<Rule, FieldError> {
    let mut clauses = Vec::with_capacity(from.clauses.len());
    for (i, clause) in from.clauses.iter().enumerate() {
        let mut matches = Vec::with_capacity(clause.matches.len());
        for (j, m) in clause.matches.iter().enumerate() {
            let at = format_args!("clauses[{i}].matches[{j}]");
            matches.push(decode_match(m).map_err(|e| e.inside(at))?);
        }
        clauses.push(Clause { matches });
    }
    Ok(Rule { clauses })
}

fn decode_match(from: &wire::Match) -> Result<Match, FieldError> {
    let mut understood = from.extensions.is_empty();
    let mut strings = |list: &[wire::StringMatch], read: fn(&str) -> &str| {
        let known: Vec<_> = list.iter().filter_map(|m| string_match(m, read)).collect();
        understood &= known.len() == list.len();
        known
    };
    let namespaces = strings(&from.namespaces, |s| s);
    let not_namespaces = strings(&from.not_namespaces, |s| s);
    let principals = strings(&from.principals, without_scheme);
    let not_principals = strings(&from.not_principals, without_scheme);
    let mut accounts = |list: &[wire::ServiceAccountMatch]| {
        let known: Vec<_> = list.iter().filter_map(account_match).collect();
        understood &= known.len() == list.len();
        known
    };
    let mut decoded = Match {
        namespaces,
        not_namespaces,
        service_accounts: accounts(&from.service_accounts),
        not_service_accounts: accounts(&from.not_service_accounts),
        principals,
        not_principals,
        source_ips: blocks(&from.source_ips, "source_ips")?,
        not_source_ips: blocks(&from.not_source_ips, "not_source_ips")?,
        destination_ips: blocks(&from.destination_ips, "destination_ips")?,
        not_destination_ips: blocks(&from.not_destination_ips, "not_destination_ips")?,
        destination_ports: ports(&from.destination_ports, "destination_ports")?,
        not_destination_ports: ports(&from.not_destination_ports, "not_destination_ports")?,
        not_understood: false,
    };
    decoded.not_understood = !understood || decoded.is_empty();
    Ok(decoded)
}

fn without_scheme(value: &str) -> &str {
    value.strip_prefix("spiffe://").unwrap_or(value)
}

fn string_match(from: &wire::StringMatch, read: fn(&str) -> &str) -> Option<StringMatch> {
    use wire::string_match::MatchType;
    let read = |s: &str| -> Arc<str> { read(s).into() };
    Some(match from.match_type.as_ref()? {
        MatchType::Exact(s) => StringMatch::Exact(read(s)),
        MatchType::Prefix(s) => StringMatch::Prefix(read(s)),
        MatchType::Suffix(s) => StringMatch::Suffix(s.as_str().into()),
        MatchType::Presence(()) => StringMatch::Presence,
    })
}

fn account_match(from: &wire::ServiceAccountMatch) -> Option<ServiceAccountMatch> {
    let complete = !from.namespace.is_empty() && !from.service_account.is_empty();
    complete.then(|| ServiceAccountMatch {
        namespace: from.namespace.as_str().into(),
        service_account: from.service_account.as_str().into(),
    })
}

fn blocks(from: &[wire::Address], field: &'static str) -> Result<Vec<IpNet>, FieldError> {
    let decode = |(i, block): (usize, &wire::Address)| {
        decode::ip_block(&block.address, block.length, format_args!("{field}[{i}]"))
    };
    from.iter().enumerate().map(decode).collect()
}

fn ports(from: &[u32], field: &'static str) -> Result<Vec<u16>, FieldError> {
    let decode = |(i, port): (usize, &u32)| decode::port(*port, format_args!("{field}[{i}]"));
    from.iter().enumerate().map(decode).collect()
}
