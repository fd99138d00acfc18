//! The policy decision: pure, synchronous, the same in the agent, the controller and the CLI.
//!
//! It fails closed. A policy that is named on a workload but absent denies; a policy that could not be
//! read denies where it applies; a condition that this program does not understand never allows and
//! always denies. Principals come from TLS only: a source address is never turned into an identity.
//!
//! [`decide`] is what a data plane calls for each connection. [`explain`] gives the same verdict by
//! another way, all policies one by one, and says of each condition whether it held.

mod audit;
mod cover;
mod decide;
mod decode;
mod explain;
mod group;
mod index;
mod keys;
mod matches;
mod names;
mod plaintext;
mod ports;
mod table;
mod verdict;

pub use cover::{Reach, Shadow, shadowed};
pub use decide::{Hit, Reports, decide, report};
pub use explain::{
    AlternativeTrace, ClauseTrace, ConditionTrace, Explanation, NearMiss, PolicyTrace, RuleTrace,
    explain, nearest,
};
pub use index::{PolicyIndex, PolicySet};
pub use matches::{Clause, Match, Rule, ServiceAccountMatch, StringMatch};
pub use names::PolicyNames;
pub use plaintext::{Refused, refused_in_clear};
pub use verdict::{Action, Reason, Verdict};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::identity::SpiffeId;

/// To which workloads a policy applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of the mesh.
    Global,
    /// Those of the policy's namespace.
    Namespace,
    /// Those that list the policy by name.
    Selector,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "mesh",
            Self::Namespace => "namespace",
            Self::Selector => "selector",
        })
    }
}

/// What a policy does with the connections that one of its rules matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyAction {
    /// Allows them; as soon as one such policy applies, what none of them matches is denied.
    Allow,
    /// Denies them, whatever else allows them.
    Deny,
    /// Reports them.
    Audit,
}

impl fmt::Display for PolicyAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
        })
    }
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
    pub action: PolicyAction,
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

impl Connection<'_> {
    /// IPv4 that came through an IPv6 socket is IPv4 to a policy.
    fn canonical(&self) -> Self {
        let of = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        Self {
            source: of(self.source),
            destination: of(self.destination),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests;
