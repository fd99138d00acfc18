//! Policies under fuzzing: whatever they say, the engine says what the documented rules say.

use arbitrary::Arbitrary;
use mesh_common::identity::SpiffeId;
use mesh_common::policy::{Connection, Policy, PolicyIndex, PolicyNames, decide, explain, report};
use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{
    Action, Address, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch,
};
use mesh_common::proto::workload::Extension;
use std::net::{IpAddr, SocketAddr};

#[path = "../../mesh-common/tests/policy/reference.rs"]
mod reference;

use reference::Stated;

const NAMESPACES: [&str; 2] = ["shop", "ops"];

/// A connection, and the policies that a workload of the first namespace has, or has not.
#[derive(Arbitrary, Debug)]
pub struct Input {
    facts: Facts,
    policies: Vec<AnyPolicy>,
    listed: Vec<u8>,
}

/// A connection.
#[derive(Arbitrary, Debug)]
pub struct Facts {
    source: IpAddr,
    destination: SocketAddr,
    principal: Option<(String, String, String)>,
}

impl Facts {
    fn principal(&self) -> Option<SpiffeId> {
        let (domain, namespace, account) = self.principal.as_ref()?;
        SpiffeId::new(&domain.parse().ok()?, namespace, account).ok()
    }

    /// Calls `check` with the connection.
    pub fn with<R>(&self, check: impl FnOnce(&Connection<'_>) -> R) -> R {
        let principal = self.principal();
        check(&Connection {
            source: SocketAddr::new(self.source, 40_000),
            destination: self.destination,
            principal: principal.as_ref(),
        })
    }
}

#[derive(Arbitrary, Debug)]
struct AnyPolicy {
    in_first_namespace: bool,
    scope: u8,
    deny: bool,
    audit: bool,
    dry_run: bool,
    rules: Vec<Vec<Vec<AnyMatch>>>,
}

#[derive(Arbitrary, Debug)]
struct AnyMatch {
    fields: Vec<(bool, Field)>,
    extension: bool,
}

/// A condition on one field.
#[derive(Arbitrary, Debug)]
enum Field {
    Principal(Text),
    Namespace(Text),
    Account(Option<(String, String)>),
    Source(Option<[u8; 16]>, bool, u8),
    Destination(Option<[u8; 16]>, bool, u8),
    Port(Option<u16>),
}

/// A condition on a string: cut out of what the connection has, or anything.
#[derive(Arbitrary, Debug)]
enum Text {
    Whole,
    Start(u8),
    End(u8),
    Presence,
    Unknown,
    Exact(String),
    Prefix(String),
    Suffix(String),
}

impl Text {
    fn of(&self, value: &str) -> StringMatch {
        let at = |cut: u8| value.floor_char_boundary(usize::from(cut));
        let match_type = match self {
            Self::Whole => Some(MatchType::Exact(value.into())),
            Self::Start(cut) => Some(MatchType::Prefix(value[..at(*cut)].into())),
            Self::End(cut) => Some(MatchType::Suffix(value[at(*cut)..].into())),
            Self::Presence => Some(MatchType::Presence(())),
            Self::Unknown => None,
            Self::Exact(text) => Some(MatchType::Exact(text.clone())),
            Self::Prefix(text) => Some(MatchType::Prefix(text.clone())),
            Self::Suffix(text) => Some(MatchType::Suffix(text.clone())),
        };
        StringMatch { match_type }
    }
}

fn block(own: IpAddr, other: Option<[u8; 16]>, v4: bool, length: u8) -> Address {
    let own = match own {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let address = match other {
        None => own,
        Some(bytes) if v4 => bytes[..4].to_vec(),
        Some(bytes) => bytes.to_vec(),
    };
    let length = length.into();
    Address { address, length }
}

impl AnyMatch {
    fn wire(&self, conn: &Connection<'_>) -> Match {
        let principal = conn.principal.map_or("", |id| id.principal());
        let namespace = conn.principal.map_or("", |id| id.namespace());
        let mut m = Match::default();
        for (negated, field) in &self.fields {
            let pick = |of: [&mut Vec<StringMatch>; 2], value| {
                let [any, none] = of;
                if *negated { none } else { any }.push(value);
            };
            match field {
                Field::Principal(text) => pick(
                    [&mut m.principals, &mut m.not_principals],
                    text.of(principal),
                ),
                Field::Namespace(text) => pick(
                    [&mut m.namespaces, &mut m.not_namespaces],
                    text.of(namespace),
                ),
                Field::Account(account) => {
                    let own = || {
                        let account = conn.principal.map_or("", |id| id.service_account());
                        (namespace.to_owned(), account.to_owned())
                    };
                    let (namespace, service_account) = account.clone().unwrap_or_else(own);
                    let list = if *negated {
                        &mut m.not_service_accounts
                    } else {
                        &mut m.service_accounts
                    };
                    list.push(ServiceAccountMatch {
                        namespace,
                        service_account,
                    });
                }
                Field::Source(other, v4, length) => {
                    let list = if *negated {
                        &mut m.not_source_ips
                    } else {
                        &mut m.source_ips
                    };
                    list.push(block(conn.source.ip(), *other, *v4, *length));
                }
                Field::Destination(other, v4, length) => {
                    let list = if *negated {
                        &mut m.not_destination_ips
                    } else {
                        &mut m.destination_ips
                    };
                    list.push(block(conn.destination.ip(), *other, *v4, *length));
                }
                Field::Port(port) => {
                    let list = if *negated {
                        &mut m.not_destination_ports
                    } else {
                        &mut m.destination_ports
                    };
                    list.push(port.unwrap_or(conn.destination.port()).into());
                }
            }
        }
        m.extensions.extend(self.extension.then(Extension::default));
        m
    }
}

impl AnyPolicy {
    fn stated(&self, number: usize, conn: &Connection<'_>) -> Stated {
        let clause = |matches: &Vec<AnyMatch>| Clause {
            matches: matches.iter().map(|m| m.wire(conn)).collect(),
        };
        let rule = |clauses: &Vec<Vec<AnyMatch>>| Rule {
            clauses: clauses.iter().map(clause).collect(),
        };
        let scopes = [Scope::Global, Scope::Namespace, Scope::WorkloadSelector];
        let action = if self.deny {
            Action::Deny
        } else {
            Action::Allow
        };
        let policy = Authorization {
            name: format!("p{number}"),
            namespace: NAMESPACES[usize::from(!self.in_first_namespace)].into(),
            scope: scopes[usize::from(self.scope) % scopes.len()].into(),
            action: action.into(),
            rules: self.rules.iter().map(rule).collect(),
            dry_run: self.dry_run,
            extensions: Vec::new(),
        };
        Stated {
            policy,
            audit: self.audit,
        }
    }
}

/// Compares the engine with the reference, and the explanation with the engine.
pub fn check(input: &Input) {
    input.facts.with(|conn| {
        let stated = input
            .policies
            .iter()
            .enumerate()
            .map(|(n, policy)| policy.stated(n, conn));
        let mut index = PolicyIndex::default();
        let mut known = Vec::new();
        for stated in stated {
            // Blocks of impossible lengths are refused.
            if let Ok(policy) = Policy::try_from(stated.sent()) {
                index.upsert(policy);
                known.push(stated);
            }
        }
        let name = |n: &u8| match known.get(usize::from(*n)) {
            Some(stated) => stated.key(),
            None => "shop/missing".to_owned(),
        };
        let listed: Vec<String> = input.listed.iter().map(name).collect();
        let names: PolicyNames = listed.iter().map(String::as_str).collect();
        let policies = index.of(NAMESPACES[0], &names);

        let expected = |dry_run| reference::verdict(&known, NAMESPACES[0], &listed, conn, dry_run);
        let said = |verdict: &mesh_common::policy::Verdict| {
            let by = verdict
                .policy
                .as_ref()
                .map(|policy| (policy.to_string(), verdict.rule));
            (verdict.is_allow(), by)
        };
        let verdict = decide(&policies, conn);
        assert_eq!(said(&verdict), expected(false));
        let reports = report(&policies, conn);
        if let Some(would_be) = &reports.dry_run {
            assert_eq!(said(would_be), expected(true));
        }
        let audits = reports
            .audit
            .iter()
            .map(|hit| (hit.policy.to_string(), hit.rule));
        let applying = reference::applying(&known, NAMESPACES[0], &listed);
        assert_eq!(
            audits.collect::<Vec<_>>(),
            reference::audits(&applying, conn)
        );

        let explanation = explain(&policies, conn);
        assert_eq!(
            (&explanation.verdict, &explanation.reports),
            (&verdict, &reports)
        );
        assert!(!explanation.to_string().is_empty());
    });
}
