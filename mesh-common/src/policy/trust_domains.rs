//! The names that one trust domain has.
//!
//! A mesh that moves from one trust domain to another has workloads of both for a while. Policies are then
//! read so that a principal under an alias equals the same principal under the trust domain.

use crate::identity::TrustDomain;
use crate::proto::security::string_match::MatchType;
use crate::proto::security::{Authorization, StringMatch};

/// In a policy, a name for whatever the mesh's trust domain is.
const LOCAL: &str = "cluster.local";

/// The trust domain of a mesh, and its aliases.
#[derive(Clone, Debug)]
pub struct TrustDomains(Vec<TrustDomain>);

impl TrustDomains {
    /// A trust domain with those aliases.
    #[must_use]
    pub fn new(own: TrustDomain, aliases: impl IntoIterator<Item = TrustDomain>) -> Self {
        let mut names = vec![own];
        for alias in aliases {
            if !names.contains(&alias) {
                names.push(alias);
            }
        }
        Self(names)
    }

    /// Rewrites the principals of a policy so that each name of the trust domain stands for all of them.
    ///
    /// A value that states no trust domain, or another one, stays as it is. `cluster.local` means the mesh's
    /// own trust domain, whatever its name.
    pub fn apply(&self, policy: &mut Authorization) {
        let matches = policy
            .rules
            .iter_mut()
            .flat_map(|rule| &mut rule.clauses)
            .flat_map(|clause| &mut clause.matches);
        for m in matches {
            self.widen(&mut m.principals);
            self.widen(&mut m.not_principals);
        }
    }

    fn widen(&self, principals: &mut Vec<StringMatch>) {
        let mut all = Vec::with_capacity(principals.len());
        for stated in principals.drain(..) {
            for each in self.names_of(stated) {
                if !all.contains(&each) {
                    all.push(each);
                }
            }
        }
        *principals = all;
    }

    /// The same condition under every name, in place of what was stated or beside it.
    fn names_of(&self, stated: StringMatch) -> Vec<StringMatch> {
        let under = |kind: fn(String) -> MatchType, path: &str| {
            let each = |name: &TrustDomain| StringMatch {
                match_type: Some(kind(format!("{name}{path}"))),
            };
            self.0.iter().map(each).collect::<Vec<_>>()
        };
        match &stated.match_type {
            Some(MatchType::Exact(value)) => match split(value) {
                Some((domain, path)) if self.is_ours(domain) => under(MatchType::Exact, path),
                _ => vec![stated],
            },
            Some(MatchType::Prefix(value)) => match split(value) {
                Some((domain, path)) if self.is_ours(domain) => under(MatchType::Prefix, path),
                // The beginning of a name: it means every name if it begins one of them.
                None if self.any_name(|name| name.starts_with(&**value)) => {
                    let ours = under(MatchType::Prefix, "/");
                    [vec![stated], ours].concat()
                }
                _ => vec![stated],
            },
            // The end of a name, and a whole path after it.
            Some(MatchType::Suffix(value)) => match split(value) {
                Some((end, path))
                    if !end.is_empty()
                        && is_whole(path)
                        && self.any_name(|name| name.ends_with(end)) =>
                {
                    let ours = under(MatchType::Exact, path);
                    [vec![stated], ours].concat()
                }
                _ => vec![stated],
            },
            _ => vec![stated],
        }
    }

    fn any_name(&self, fits: impl Fn(&str) -> bool) -> bool {
        fits(LOCAL) || self.0.iter().any(|name| fits(name.as_str()))
    }

    fn is_ours(&self, domain: &str) -> bool {
        self.any_name(|name| name == domain)
    }
}

/// A trust domain and what follows it, from the slash on.
fn split(value: &str) -> Option<(&str, &str)> {
    let value = value.strip_prefix("spiffe://").unwrap_or(value);
    value.find('/').map(|slash| value.split_at(slash))
}

/// Whether this is all that follows the trust domain in a principal.
fn is_whole(path: &str) -> bool {
    let mut parts = path.split('/');
    let mut next = || parts.next();
    matches!(
        (next(), next(), next(), next(), next(), next()),
        (Some(""), Some("ns"), Some(_), Some("sa"), Some(_), None)
    )
}
