//! Trust-domain aliases: a principal that names one name of the trust domain matches all of them.
//!
//! `cluster.local` in a policy always means the mesh's own trust domain, whatever that is called.

use mesh_common::proto::security::string_match::MatchType;
use mesh_common::proto::security::{Match, Rule, StringMatch};

use super::Options;

/// What a policy may call the mesh's trust domain by.
const OWN: &str = "cluster.local";

/// Adds to each principal the same under the other names of its trust domain.
pub(super) fn expand(mut rules: Vec<Rule>, options: &Options) -> Vec<Rule> {
    let clauses = rules.iter_mut().flat_map(|rule| &mut rule.clauses);
    for condition in clauses.flat_map(|clause| &mut clause.matches) {
        expand_match(condition, options);
    }
    rules
}

fn expand_match(condition: &mut Match, options: &Options) {
    if options.trust_domain_aliases.is_empty() && options.trust_domain == OWN {
        return;
    }
    for principals in [&mut condition.principals, &mut condition.not_principals] {
        let mut all: Vec<StringMatch> = Vec::with_capacity(principals.len());
        for principal in principals.drain(..) {
            let others = others(&principal, options);
            let stated = (!means_own(&principal, options)).then_some(principal);
            for one in stated.into_iter().chain(others) {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        *principals = all;
    }
}

/// Whether it names [`OWN`] where the trust domain has no such name: nobody there is called so.
fn means_own(principal: &StringMatch, options: &Options) -> bool {
    let mut names = std::iter::once(&options.trust_domain).chain(&options.trust_domain_aliases);
    let stated = match &principal.match_type {
        Some(MatchType::Exact(text) | MatchType::Prefix(text)) => text.split_once('/'),
        _ => None,
    };
    stated.is_some_and(|(domain, _)| domain == OWN) && names.all(|name| name != OWN)
}

fn others(principal: &StringMatch, options: &Options) -> Vec<StringMatch> {
    let names = || std::iter::once(&options.trust_domain).chain(&options.trust_domain_aliases);
    let is_own = |domain: &str| domain == OWN || names().any(|name| name == domain);
    // The part about the trust domain, whether it fits one of its names, and what follows.
    let (fits, rest, exact) = match &principal.match_type {
        Some(MatchType::Exact(text)) => {
            let Some((domain, rest)) = text.split_once('/') else {
                return Vec::new();
            };
            (is_own(domain), rest, true)
        }
        Some(MatchType::Prefix(text)) => match text.split_once('/') {
            Some((domain, rest)) => (is_own(domain), rest, false),
            None => (
                names().any(|name| name.starts_with(text.as_str())),
                "",
                false,
            ),
        },
        Some(MatchType::Suffix(text)) => match text.split_once('/') {
            // `*/ns/...` is of every trust domain, and so is what begins after it.
            Some((domain, rest)) if !domain.is_empty() && rest.starts_with("ns/") => {
                (names().any(|name| name.ends_with(domain)), rest, true)
            }
            _ => return Vec::new(),
        },
        Some(MatchType::Presence(())) | None => return Vec::new(),
    };
    if !fits {
        return Vec::new();
    }
    let under = |name: &String| {
        let text = format!("{name}/{rest}");
        StringMatch {
            match_type: Some(match exact {
                true => MatchType::Exact(text),
                false => MatchType::Prefix(text),
            }),
        }
    };
    names().map(under).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(matches: MatchType) -> Vec<MatchType> {
        expanded_in("new.example", &["old.example", "cluster.local"], matches)
    }

    fn expanded_in(domain: &str, aliases: &[&str], matches: MatchType) -> Vec<MatchType> {
        let options = Options {
            cluster_id: String::new(),
            trust_domain: domain.into(),
            trust_domain_aliases: aliases.iter().map(ToString::to_string).collect(),
            root_namespace: String::new(),
            dataplane_label: String::new(),
            dataplane_value: String::new(),
        };
        let one = StringMatch {
            match_type: Some(matches),
        };
        let mut condition = Match {
            principals: vec![one.clone()],
            not_principals: vec![one],
            ..Match::default()
        };
        expand_match(&mut condition, &options);
        assert_eq!(condition.principals, condition.not_principals);
        let types = condition.principals.into_iter().map(|one| one.match_type);
        types.map(Option::unwrap).collect()
    }

    #[test]
    fn a_principal_matches_under_every_name_of_its_trust_domain() {
        let web = |domain: &str| MatchType::Exact(format!("{domain}/ns/shop/sa/web"));
        for named in ["new.example", "old.example", "cluster.local"] {
            let all = expanded(web(named));
            assert_eq!(all[0], web(named), "what was written comes first");
            assert_eq!(all.len(), 3);
            for domain in ["new.example", "old.example", "cluster.local"] {
                assert!(all.contains(&web(domain)), "{domain} of {named}");
            }
        }
        assert_eq!(expanded(web("elsewhere")), [web("elsewhere")]);
    }

    #[test]
    fn cluster_local_means_the_trust_domain_of_the_mesh() {
        let web = |domain: &str| MatchType::Exact(format!("{domain}/ns/shop/sa/web"));
        let shop = |domain: &str| MatchType::Prefix(format!("{domain}/ns/shop/"));
        let mesh = |matches| expanded_in("mesh.example", &[], matches);
        assert_eq!(mesh(web("cluster.local")), [web("mesh.example")]);
        assert_eq!(mesh(shop("cluster.local")), [shop("mesh.example")]);
        for stated in ["mesh.example", "elsewhere"] {
            assert_eq!(mesh(web(stated)), [web(stated)]);
        }
        let suffix = MatchType::Suffix(".local/ns/shop/sa/web".into());
        assert_eq!(
            mesh(suffix.clone()),
            [suffix],
            "a pattern names no trust domain"
        );
        let aliased = expanded_in("mesh.example", &["old.example"], web("cluster.local"));
        assert_eq!(aliased, [web("mesh.example"), web("old.example")]);
        assert_eq!(
            expanded_in("cluster.local", &[], web("cluster.local")),
            [web("cluster.local")]
        );
    }

    #[test]
    fn patterns_are_expanded_as_far_as_they_name_the_trust_domain() {
        let prefix = |text: &str| MatchType::Prefix(text.into());
        let suffix = |text: &str| MatchType::Suffix(text.into());
        assert_eq!(
            expanded(prefix("old.example/ns/shop/")),
            [
                prefix("old.example/ns/shop/"),
                prefix("new.example/ns/shop/"),
                prefix("cluster.local/ns/shop/"),
            ]
        );
        assert_eq!(
            expanded(prefix("cluster")),
            [
                prefix("cluster"),
                prefix("new.example/"),
                prefix("old.example/"),
                prefix("cluster.local/"),
            ]
        );
        assert_eq!(expanded(prefix("clusters")), [prefix("clusters")]);
        assert_eq!(
            expanded(suffix(".local/ns/shop/sa/web")).len(),
            4,
            "it names the end of one of the names"
        );
        for every in ["/ns/shop/sa/web", "/sa/web", "web"] {
            assert_eq!(expanded(suffix(every)), [suffix(every)]);
        }
        assert_eq!(expanded(MatchType::Presence(())), [MatchType::Presence(())]);
    }
}
