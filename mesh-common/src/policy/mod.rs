//! The policy decision: pure, synchronous, the same in the agent, the controller and the CLI.
//!
//! It fails closed. A policy that is named on a workload but absent denies; a policy that could not be
//! read denies where it applies; a condition that this program does not understand never allows and
//! always denies. Principals come from TLS only: a source address is never turned into an identity.

mod decode;
mod index;
mod matches;
mod verdict;

pub use index::{PolicyIndex, PolicySet};
pub use matches::{Clause, Match, Rule, ServiceAccountMatch, StringMatch};
pub use verdict::{Action, Reason, Verdict};

use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::identity::SpiffeId;

/// To which workloads a policy applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of the mesh.
    Global,
    /// Those of the policy's namespace.
    Namespace,
    /// Those that list the policy by name.
    Selector,
}

/// One authorization policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Policy {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// To which workloads it applies.
    pub scope: Scope,
    /// What it does when one of its rules matches.
    pub action: Action,
    /// Any one of them is enough; none match when there are none.
    pub rules: Vec<Rule>,
    /// Reported, not enforced.
    pub dry_run: bool,
    /// The controller sent it, but it could not be read: it denies wherever it applies.
    pub unreadable: bool,
    key: Arc<str>,
}

impl Policy {
    /// The resource's name: `namespace/name`.
    #[must_use]
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The first rule that matches the connection.
    #[must_use]
    pub fn matching_rule(&self, conn: &Connection<'_>) -> Option<usize> {
        self.rules
            .iter()
            .position(|rule| rule.matches(conn, self.action))
    }
}

/// What is known of a connection when it is judged.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The client.
    pub source: SocketAddr,
    /// The application that the client wants to reach.
    pub destination: SocketAddr,
    /// The client's identity as TLS proved it; none in the clear.
    pub principal: Option<&'a SpiffeId>,
}

/// Judges a connection by the policies of its destination.
///
/// In this order: a policy that is named but missing, or unreadable, denies; a DENY policy that matches
/// denies; without any ALLOW policy the connection is allowed; an ALLOW policy that matches allows; all
/// else is denied. Policies in dry run do not count.
pub fn decide(policies: &PolicySet<'_>, conn: &Connection<'_>) -> Verdict {
    let conn = &canonical(conn);
    if let Some(missing) = policies.missing() {
        return Verdict::missing_policy(missing.clone());
    }
    let enforced = || policies.iter().filter(|policy| !policy.dry_run);
    if let Some(policy) = enforced().find(|policy| policy.unreadable) {
        return Verdict::missing_policy(policy.key.clone());
    }
    for policy in enforced().filter(|policy| policy.action == Action::Deny) {
        if let Some(rule) = policy.matching_rule(conn) {
            return Verdict::deny_rule(policy.key.clone(), rule);
        }
    }
    let mut first_allow = None;
    for policy in enforced().filter(|policy| policy.action == Action::Allow) {
        if let Some(rule) = policy.matching_rule(conn) {
            return Verdict::allow_rule(policy.key.clone(), rule);
        }
        first_allow = first_allow.or(Some(&policy.key));
    }
    match first_allow {
        None => Verdict::no_policy(),
        Some(key) => Verdict::no_allow_matched(key.clone()),
    }
}

/// IPv4 that came through an IPv6 socket is IPv4 to a policy.
fn canonical<'a>(conn: &Connection<'a>) -> Connection<'a> {
    let of = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
    Connection {
        source: of(conn.source),
        destination: of(conn.destination),
        ..*conn
    }
}

#[cfg(test)]
mod tests;
