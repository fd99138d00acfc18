//! Conditions on a connection. Matching does not allocate.

use ipnet::IpNet;
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

use super::{Connection, PolicyAction};
use crate::identity::SpiffeId;

/// Clauses that must all hold; without any it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rule {
    /// The from, to and when parts.
    pub clauses: Vec<Clause>,
}

/// Alternatives of which one must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Clause {
    /// The alternatives.
    pub matches: Vec<Match>,
}

/// Conditions of one alternative: every list that is not empty must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Match {
    /// Namespace of the principal, any of these.
    pub namespaces: Vec<StringMatch>,
    /// None of these.
    pub not_namespaces: Vec<StringMatch>,
    /// Service account of the principal, any of these.
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// None of these.
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    /// The principal without `spiffe://`, any of these.
    pub principals: Vec<StringMatch>,
    /// None of these; `presence` here matches a connection without a principal.
    pub not_principals: Vec<StringMatch>,
    /// The client's address, in any of these.
    #[serde(serialize_with = "as_text")]
    pub source_ips: Vec<IpNet>,
    /// In none of these.
    #[serde(serialize_with = "as_text")]
    pub not_source_ips: Vec<IpNet>,
    /// The address that was dialled, in any of these.
    #[serde(serialize_with = "as_text")]
    pub destination_ips: Vec<IpNet>,
    /// In none of these.
    #[serde(serialize_with = "as_text")]
    pub not_destination_ips: Vec<IpNet>,
    /// The application's port, any of these.
    pub destination_ports: Vec<u16>,
    /// None of these.
    pub not_destination_ports: Vec<u16>,
    /// It has a condition that this program does not know, or none at all: it never allows, and always
    /// denies and is always reported.
    pub not_understood: bool,
}

/// A condition on a string.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StringMatch {
    /// It is this.
    Exact(Arc<str>),
    /// It begins with this.
    Prefix(Arc<str>),
    /// It ends with this.
    Suffix(Arc<str>),
    /// It is there.
    Presence,
}

/// A condition on a service account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceAccountMatch {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub service_account: Arc<str>,
}

fn as_text<S: Serializer>(blocks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(blocks.iter().map(ToString::to_string))
}

impl Rule {
    /// How many conditions kept it from matching, by the shortest way to a match: of each clause, those of the
    /// alternative with the fewest.
    pub(super) fn failures(&self, conn: &Connection<'_>, action: PolicyAction) -> usize {
        let of = |clause: &Clause| match clause.matches(conn, action) {
            true => 0,
            false => {
                let alternatives = clause.matches.iter().map(|m| m.failures(conn));
                // Without alternatives it is the clause itself that is not understood.
                alternatives.min().unwrap_or(1)
            }
        };
        self.clauses.iter().map(of).sum()
    }

    pub(super) fn matches(&self, conn: &Connection<'_>, action: PolicyAction) -> bool {
        self.clauses
            .iter()
            .all(|clause| clause.matches(conn, action))
    }
}

impl Clause {
    fn matches(&self, conn: &Connection<'_>, action: PolicyAction) -> bool {
        if self.matches.is_empty() {
            return fail_closed(action);
        }
        self.matches.iter().any(|m| m.matches(conn, action))
    }
}

/// What a condition says that is not understood: it never allows, it always denies, and an audit that is
/// too wide hides nothing.
pub(super) fn fail_closed(action: PolicyAction) -> bool {
    action != PolicyAction::Allow
}

impl Match {
    /// Whether it says nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn matches(&self, conn: &Connection<'_>, action: PolicyAction) -> bool {
        if self.not_understood {
            return fail_closed(action);
        }
        self.each_field(conn, |missed| missed == 0)
    }

    /// How many conditions do not hold.
    fn failures(&self, conn: &Connection<'_>) -> usize {
        let mut failures = usize::from(self.not_understood);
        self.each_field(conn, |missed| {
            failures += missed;
            true
        });
        failures
    }

    /// Calls `visit` with how many of the conditions on each field do not hold, until it says false. Numbers
    /// come before strings: comparing those means fetching them.
    fn each_field(&self, conn: &Connection<'_>, mut visit: impl FnMut(usize) -> bool) -> bool {
        let namespace = conn.principal.map(SpiffeId::namespace);
        let principal = conn.principal.map(SpiffeId::principal);
        let (source, destination) = (conn.source.ip(), conn.destination.ip());
        let port = conn.destination.port();
        visit(missed(
            &self.destination_ports,
            &self.not_destination_ports,
            |wanted| *wanted == port,
        )) && visit(missed(&self.source_ips, &self.not_source_ips, |block| {
            block.contains(&source)
        })) && visit(missed(
            &self.destination_ips,
            &self.not_destination_ips,
            |block| block.contains(&destination),
        )) && visit(missed(&self.namespaces, &self.not_namespaces, |m| {
            m.matches(namespace)
        })) && visit(missed(
            &self.service_accounts,
            &self.not_service_accounts,
            |m| m.matches(conn),
        )) && visit(missed(&self.principals, &self.not_principals, |m| {
            m.matches(principal)
        }))
    }
}

/// Of a field and its negation, how many are stated and do not hold.
fn missed<T>(any: &[T], none: &[T], matches: impl Fn(&T) -> bool) -> usize {
    let absent = !any.is_empty() && !any.iter().any(&matches);
    usize::from(absent) + usize::from(none.iter().any(&matches))
}

impl StringMatch {
    /// Nothing matches what is not there.
    pub(super) fn matches(&self, value: Option<&str>) -> bool {
        let Some(value) = value else { return false };
        match self {
            Self::Exact(exact) => value == &**exact,
            Self::Prefix(prefix) => value.starts_with(&**prefix),
            Self::Suffix(suffix) => value.ends_with(&**suffix),
            Self::Presence => !value.is_empty(),
        }
    }
}

impl ServiceAccountMatch {
    pub(super) fn matches(&self, conn: &Connection<'_>) -> bool {
        conn.principal.is_some_and(|p| {
            p.namespace() == &*self.namespace && p.service_account() == &*self.service_account
        })
    }
}

impl fmt::Display for StringMatch {
    /// As policies write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Presence => f.write_str("*"),
        }
    }
}

impl fmt::Display for ServiceAccountMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}
