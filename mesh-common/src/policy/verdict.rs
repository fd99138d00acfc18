//! What policy said, and why.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It goes on.
    Allow,
    /// It is refused.
    Deny,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
        })
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No ALLOW policy applies to the destination.
    NoPolicy,
    /// A rule of an ALLOW policy matched.
    AllowRule,
    /// A rule of a DENY policy matched.
    DenyRule,
    /// ALLOW policies apply, none matched.
    NoAllowMatched,
    /// A policy that applies is absent or could not be read.
    MissingPolicy,
    /// The destination is unknown, so its policies are.
    UnknownDestination,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoPolicy => "no ALLOW policy applies",
            Self::AllowRule => "a rule of an ALLOW policy matched",
            Self::DenyRule => "a rule of a DENY policy matched",
            Self::NoAllowMatched => "no rule of the ALLOW policies matched",
            Self::MissingPolicy => "a policy that applies is missing or unreadable",
            Self::UnknownDestination => "the destination workload is unknown",
        })
    }
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[must_use]
pub struct Verdict {
    /// What happens.
    pub action: Action,
    /// The policy that decided, `namespace/name`; for [`Reason::NoAllowMatched`] the first of those that
    /// could have allowed.
    pub policy: Option<Arc<str>>,
    /// The rule of that policy, counted from 0.
    pub rule: Option<usize>,
    /// Why.
    pub reason: Reason,
}

impl Verdict {
    /// Whether the connection goes on.
    #[must_use]
    pub fn is_allow(&self) -> bool {
        self.action == Action::Allow
    }

    /// Denies because the destination, and so its policies, are unknown.
    pub fn unknown_destination() -> Self {
        Self::deny(None, None, Reason::UnknownDestination)
    }

    pub(super) fn no_policy() -> Self {
        Self {
            action: Action::Allow,
            policy: None,
            rule: None,
            reason: Reason::NoPolicy,
        }
    }

    pub(super) fn allow_rule(policy: Arc<str>, rule: usize) -> Self {
        let (policy, rule) = (Some(policy), Some(rule));
        Self {
            action: Action::Allow,
            policy,
            rule,
            reason: Reason::AllowRule,
        }
    }

    pub(super) fn deny_rule(policy: Arc<str>, rule: usize) -> Self {
        Self::deny(Some(policy), Some(rule), Reason::DenyRule)
    }

    pub(super) fn no_allow_matched(policy: Arc<str>) -> Self {
        Self::deny(Some(policy), None, Reason::NoAllowMatched)
    }

    pub(super) fn missing_policy(policy: Arc<str>) -> Self {
        Self::deny(Some(policy), None, Reason::MissingPolicy)
    }

    fn deny(policy: Option<Arc<str>>, rule: Option<usize>, reason: Reason) -> Self {
        Self {
            action: Action::Deny,
            policy,
            rule,
            reason,
        }
    }
}

impl fmt::Display for Verdict {
    /// `DENY by shop/callers rule 2: a rule of a DENY policy matched`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.action)?;
        if let Some(policy) = &self.policy {
            write!(f, " by {policy}")?;
        }
        if let Some(rule) = self.rule {
            write!(f, " rule {rule}")?;
        }
        write!(f, ": {}", self.reason)
    }
}
