//! Which policies and rules decided, and how often.
//!
//! Each thread remembers the counters that it used, so that a decision costs a look into its own table. A
//! policy's series end with the policy; there are never more than [`MOST`].

use mesh_common::policy::{Hit, Reason, Reports, Verdict};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::same::Same;

/// Series that there are at most; decisions beyond are counted under the policy [`OTHER`].
const MOST: usize = 10_000;
const OTHER: &str = "other";
/// What a label says when there is no such thing.
const NONE: &str = "none";
/// Counters that a thread remembers; then it starts anew.
const REMEMBERED: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    /// `namespace/name`.
    policy: Arc<str>,
    rule: String,
    /// `allow`, `deny` or `audit`.
    action: &'static str,
    reason: &'static str,
    /// `true` when the verdict is that of policies in dry run.
    dry_run: &'static str,
}

/// What a decision is, apart from who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Enforced(Reason),
    DryRun(Reason),
    Audit,
}

impl Kind {
    fn action(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Enforced(reason) | Self::DryRun(reason) => match reason {
                Reason::NoPolicy | Reason::AllowRule => "allow",
                Reason::DenyRule
                | Reason::NoAllowMatched
                | Reason::MissingPolicy
                | Reason::UnknownDestination => "deny",
            },
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Audit => "audit_rule",
            Self::Enforced(reason) | Self::DryRun(reason) => match reason {
                Reason::NoPolicy => "no_policy",
                Reason::AllowRule => "allow_rule",
                Reason::DenyRule => "deny_rule",
                Reason::NoAllowMatched => "no_allow_matched",
                Reason::MissingPolicy => "missing_policy",
                Reason::UnknownDestination => "unknown_destination",
            },
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    decisions: Same<Inner>,
    policy: Same<str>,
    rule: Option<usize>,
    kind: Kind,
}

thread_local! {
    static COUNTERS: RefCell<HashMap<Key, Counter>> = RefCell::default();
}

#[derive(Debug, Default)]
struct Inner {
    family: Family<Labels, Counter>,
    /// The labels of all series.
    series: Mutex<HashSet<Labels>>,
}

/// The counters. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Decisions(Arc<Inner>);

impl Decisions {
    /// What is to be registered.
    pub(super) fn family(&self) -> Family<Labels, Counter> {
        self.0.family.clone()
    }

    /// Counts a verdict.
    pub(super) fn decided(&self, verdict: &Verdict) {
        let policy = verdict.policy.as_ref();
        self.count(policy, verdict.rule, Kind::Enforced(verdict.reason));
    }

    /// Counts what policies said that enforce nothing.
    pub(super) fn reported(&self, reports: &Reports) {
        for Hit { policy, rule } in &reports.audit {
            self.count(Some(policy), Some(*rule), Kind::Audit);
        }
        if let Some(verdict) = &reports.dry_run {
            let policy = verdict.policy.as_ref();
            self.count(policy, verdict.rule, Kind::DryRun(verdict.reason));
        }
    }

    fn count(&self, policy: Option<&Arc<str>>, rule: Option<usize>, kind: Kind) {
        let key = Key {
            decisions: Same(Some(self.0.clone())),
            policy: Same(policy.cloned()),
            rule,
            kind,
        };
        COUNTERS.with_borrow_mut(|known| {
            if let Some(counter) = known.get(&key) {
                counter.inc();
                return;
            }
            if known.len() >= REMEMBERED {
                known.clear();
            }
            let counter = self.counter(policy, rule, kind);
            counter.inc();
            known.insert(key, counter);
        });
    }

    fn counter(&self, policy: Option<&Arc<str>>, rule: Option<usize>, kind: Kind) -> Counter {
        let dry_run = matches!(kind, Kind::DryRun(_));
        let mut labels = Labels {
            policy: policy.cloned().unwrap_or_else(|| NONE.into()),
            rule: rule.map_or_else(|| NONE.into(), |rule| rule.to_string()),
            action: kind.action(),
            reason: kind.reason(),
            dry_run: if dry_run { "true" } else { "false" },
        };
        let mut series = self.series();
        if series.len() >= MOST && !series.contains(&labels) {
            (labels.policy, labels.rule) = (OTHER.into(), NONE.into());
        }
        let counter = self.0.family.get_or_create(&labels).clone();
        series.insert(labels);
        counter
    }

    /// Ends the series of policies that are gone: of which `is_known` says no.
    pub(super) fn retain(&self, is_known: impl Fn(&str) -> bool) {
        self.series().retain(|labels| {
            let policy = &*labels.policy;
            let keep = [NONE, OTHER].contains(&policy) || is_known(policy);
            if !keep {
                self.0.family.remove(labels);
            }
            keep
        });
    }

    fn series(&self) -> MutexGuard<'_, HashSet<Labels>> {
        self.0.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_common::policy::Action;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    fn verdict(policy: Option<&str>, rule: Option<usize>, reason: Reason) -> Verdict {
        Verdict {
            action: Action::Deny,
            policy: policy.map(Into::into),
            rule,
            reason,
        }
    }

    fn text(decisions: &Decisions) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("decisions", "x", decisions.family());
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn each_policy_rule_and_kind_is_a_series() {
        let decisions = Decisions::default();
        let deny = verdict(Some("shop/no"), Some(2), Reason::DenyRule);
        decisions.decided(&deny);
        decisions.decided(&deny);
        // The same policy in a newer state.
        decisions.decided(&verdict(Some("shop/no"), Some(2), Reason::DenyRule));
        decisions.decided(&verdict(None, None, Reason::NoPolicy));
        decisions.reported(&Reports {
            audit: vec![Hit {
                policy: "shop/watch".into(),
                rule: 0,
            }],
            dry_run: Some(deny.clone()),
        });
        let text = text(&decisions);
        for line in [
            r#"{policy="shop/no",rule="2",action="deny",reason="deny_rule",dry_run="false"} 3"#,
            r#"{policy="none",rule="none",action="allow",reason="no_policy",dry_run="false"} 1"#,
            r#"{policy="shop/watch",rule="0",action="audit",reason="audit_rule",dry_run="false"} 1"#,
            r#"{policy="shop/no",rule="2",action="deny",reason="deny_rule",dry_run="true"} 1"#,
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
    }

    #[test]
    fn series_end_with_their_policy_and_begin_again_at_zero() {
        let decisions = Decisions::default();
        for name in ["shop/old", "shop/kept"] {
            decisions.decided(&verdict(Some(name), None, Reason::NoAllowMatched));
        }
        decisions.decided(&verdict(None, None, Reason::NoPolicy));
        decisions.retain(|policy| policy == "shop/kept");
        let after = text(&decisions);
        assert!(!after.contains("shop/old"), "{after}");
        assert!(
            after.contains("shop/kept") && after.contains("\"none\""),
            "{after}"
        );
        decisions.decided(&verdict(Some("shop/old"), None, Reason::NoAllowMatched));
        let again = text(&decisions);
        assert!(
            again
                .lines()
                .any(|l| l.contains("shop/old") && l.ends_with(" 1")),
            "{again}"
        );
    }

    #[test]
    fn there_are_no_more_series_than_the_limit() {
        let decisions = Decisions::default();
        for rule in 0..MOST + 10 {
            decisions.decided(&verdict(Some("shop/long"), Some(rule), Reason::DenyRule));
        }
        assert_eq!(decisions.series().len(), MOST + 1);
        let other = r#"policy="other",rule="none",action="deny""#;
        let text = text(&decisions);
        let line = text.lines().find(|line| line.contains(other)).unwrap();
        assert!(line.ends_with(" 10"), "{line}");
    }
}
