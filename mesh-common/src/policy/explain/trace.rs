//! Every condition of a policy, evaluated whether or not it still matters.

use std::fmt::Display;

use super::{AlternativeTrace, ClauseTrace, ConditionTrace, PolicyTrace, RuleTrace};
use crate::identity::SpiffeId;
use crate::policy::matches::{Clause, Match, Rule, ServiceAccountMatch, StringMatch, fail_closed};
use crate::policy::{Connection, Policy, PolicyAction};

pub(super) fn policy(policy: &Policy, conn: &Connection<'_>) -> PolicyTrace {
    let rule = |of: &Rule| rule(of, conn, policy.action);
    let rules: Vec<_> = policy.rules.iter().map(rule).collect();
    PolicyTrace {
        policy: policy.key().clone(),
        scope: policy.scope,
        action: policy.action,
        dry_run: policy.dry_run,
        unreadable: policy.unreadable,
        matched: rules.iter().any(|rule| rule.matched),
        rules,
    }
}

fn rule(rule: &Rule, conn: &Connection<'_>, action: PolicyAction) -> RuleTrace {
    let clauses: Vec<_> = rule
        .clauses
        .iter()
        .map(|of| clause(of, conn, action))
        .collect();
    RuleTrace {
        matched: clauses.iter().all(|clause| clause.matched),
        clauses,
    }
}

fn clause(clause: &Clause, conn: &Connection<'_>, action: PolicyAction) -> ClauseTrace {
    let none = [Match {
        not_understood: true,
        ..Match::default()
    }];
    // A clause without alternatives is one that is not understood.
    let alternatives = match clause.matches.is_empty() {
        true => &none[..],
        false => &clause.matches,
    };
    let alternatives: Vec<_> = alternatives
        .iter()
        .map(|of| alternative(of, conn, action))
        .collect();
    ClauseTrace {
        matched: alternatives.iter().any(|alternative| alternative.matched),
        alternatives,
    }
}

fn alternative(m: &Match, conn: &Connection<'_>, action: PolicyAction) -> AlternativeTrace {
    let conditions = conditions(m, conn, action);
    let matched = match m.not_understood {
        true => fail_closed(action),
        false => conditions.iter().all(|condition| condition.matched),
    };
    AlternativeTrace {
        matched,
        conditions,
    }
}

fn conditions(m: &Match, conn: &Connection<'_>, action: PolicyAction) -> Vec<ConditionTrace> {
    let mut all = Conditions(Vec::new());
    let namespace = conn.principal.map(SpiffeId::namespace);
    let principal = conn.principal.map(SpiffeId::principal);
    let account = conn
        .principal
        .map(|id| (id.namespace(), id.service_account()));
    let account_text = account.map(|(namespace, account)| format!("{namespace}/{account}"));
    let (source, destination) = (conn.source.ip(), conn.destination.ip());
    let port = conn.destination.port();

    let fields = ["principals", "notPrincipals"];
    let held = |m: &StringMatch| m.matches(principal);
    all.add(fields, [&m.principals, &m.not_principals], principal, held);
    let fields = ["namespaces", "notNamespaces"];
    let held = |m: &StringMatch| m.matches(namespace);
    all.add(fields, [&m.namespaces, &m.not_namespaces], namespace, held);
    let fields = ["serviceAccounts", "notServiceAccounts"];
    let lists = [&m.service_accounts, &m.not_service_accounts];
    let held = |m: &ServiceAccountMatch| account == Some((&m.namespace, &m.service_account));
    all.add(fields, lists, account_text.as_deref(), held);
    let fields = ["ipBlocks", "notIpBlocks"];
    let lists = [&m.source_ips, &m.not_source_ips];
    all.add(fields, lists, Some(&source.to_string()), |block| {
        block.contains(&source)
    });
    let fields = ["destination.ip", "not destination.ip"];
    let lists = [&m.destination_ips, &m.not_destination_ips];
    let held = |block: &ipnet::IpNet| block.contains(&destination);
    all.add(fields, lists, Some(&destination.to_string()), held);
    let fields = ["ports", "notPorts"];
    let lists = [&m.destination_ports, &m.not_destination_ports];
    all.add(fields, lists, Some(&port.to_string()), |wanted| {
        *wanted == port
    });
    if m.not_understood {
        all.0.push(ConditionTrace {
            field: "a condition that is not understood".into(),
            wanted: Vec::new(),
            found: None,
            matched: fail_closed(action),
        });
    }
    all.0
}

struct Conditions(Vec<ConditionTrace>);

impl Conditions {
    /// The condition on a field and its negation, if they are stated.
    fn add<T: Display>(
        &mut self,
        fields: [&'static str; 2],
        [any, none]: [&Vec<T>; 2],
        found: Option<&str>,
        held: impl Fn(&T) -> bool,
    ) {
        for (field, list, wanted) in [(fields[0], any, true), (fields[1], none, false)] {
            if !list.is_empty() {
                self.0.push(ConditionTrace {
                    field: field.into(),
                    wanted: list.iter().map(ToString::to_string).collect(),
                    found: found.map(str::to_owned),
                    matched: list.iter().any(&held) == wanted,
                });
            }
        }
    }
}
