//! What can be proven of rules without a connection: that one never matches, that whatever one matches
//! another matches too.
//!
//! Every answer is one-sided. A proof holds for all connections; without one nothing is claimed, although it
//! may be true.

mod field;
mod shadow;
mod way;

pub use shadow::{Shadow, shadowed};

use super::PolicyAction;
use super::matches::{Clause, Match, Rule, fail_closed};
use way::Way;

/// A rule with more combinations of alternatives than this is not looked at.
const MOST_WAYS: usize = 256;

/// The connections that a rule can match.
#[derive(Clone, Debug)]
pub struct Reach {
    /// One for each combination of alternatives that is no contradiction; none when there are too many.
    ways: Option<Vec<Way>>,
}

impl Reach {
    /// What `rule` can match in a policy of this action.
    #[must_use]
    pub fn of(rule: &Rule, action: PolicyAction) -> Self {
        let mut ways = vec![Way::default()];
        for clause in &rule.clauses {
            let alternatives = match alternatives(clause, action) {
                Alternatives::All => continue,
                Alternatives::These(these) => these,
            };
            if ways.len() * alternatives.len() > MOST_WAYS {
                return Self { ways: None };
            }
            let with_each = |way: &Way| {
                let one = |m: &&Match| way.and(m);
                alternatives.iter().map(one).collect::<Vec<_>>()
            };
            ways = ways.iter().flat_map(with_each).collect();
        }
        let possible = ways.into_iter().filter_map(Way::possible);
        Self {
            ways: Some(possible.collect()),
        }
    }

    /// Proves that no connection matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ways.as_ref().is_some_and(Vec::is_empty)
    }

    /// Proves that only connections with a principal match.
    #[must_use]
    pub fn needs_principal(&self) -> bool {
        self.every(Way::needs_principal)
    }

    /// Proves that only connections without a principal match.
    #[must_use]
    pub fn excludes_principals(&self) -> bool {
        self.every(Way::excludes_principals)
    }

    /// Proves that whatever matches here matches `rule` too, in a policy of `action`.
    #[must_use]
    pub fn is_within(&self, rule: &Rule, action: PolicyAction) -> bool {
        self.every(|way| {
            let holds = |clause: &Clause| match alternatives(clause, action) {
                Alternatives::All => true,
                Alternatives::These(these) => these.iter().any(|m| way.implies(m)),
            };
            rule.clauses.iter().all(holds)
        })
    }

    fn every(&self, holds: impl Fn(&Way) -> bool) -> bool {
        self.ways
            .as_ref()
            .is_some_and(|ways| ways.iter().all(holds))
    }
}

enum Alternatives<'a> {
    /// The clause holds always.
    All,
    /// One of these must hold.
    These(Vec<&'a Match>),
}

/// What a clause asks for, where what is not understood holds always or never.
fn alternatives(clause: &Clause, action: PolicyAction) -> Alternatives<'_> {
    let unknown = clause.matches.is_empty() || clause.matches.iter().any(|m| m.not_understood);
    if unknown && fail_closed(action) {
        return Alternatives::All;
    }
    let known = clause.matches.iter().filter(|m| !m.not_understood);
    Alternatives::These(known.collect())
}
