//! AuthorizationPolicy, parsed and validated.

use std::collections::BTreeMap;

use mesh_common::proto::security::Match;
use serde::Deserialize;

use super::spec::{AuthorizationSpec, PolicyDocument, RuleSpec};
use super::{FieldError, Labels, Meta, condition};

/// What a policy does with what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Permits; as soon as one such policy applies, all else is denied.
    #[default]
    Allow,
    /// Refuses, before any ALLOW is considered.
    Deny,
    /// Only to be logged.
    Audit,
    /// Left to an external authorizer.
    Custom,
}

/// One alternative of a rule's part: what L4 can check of it, and what it cannot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Term {
    /// Evaluated by the node.
    pub l4: Match,
    /// Paths of the fields that need L7.
    pub l7: Vec<String>,
}

impl Term {
    pub(super) fn new(
        field: &str,
        l4: Match,
        l7: &[(&str, &Vec<String>)],
    ) -> Result<Self, FieldError> {
        let l7: Vec<String> = l7
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, _)| format!("{field}.{name}"))
            .collect();
        if l7.is_empty() && l4 == Match::default() {
            return Err(FieldError::new(
                field,
                "is empty; add a condition or remove it",
            ));
        }
        Ok(Self { l4, l7 })
    }
}

/// All parts must match; within a part any alternative does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// `from`, `to`, and one part for each `when`.
    pub parts: Vec<Vec<Term>>,
    /// Whether there is a `from`; it is the first part.
    pub has_from: bool,
    /// Whether there is a `to`; it comes before each `when`.
    pub has_to: bool,
}

impl Rule {
    /// The field of a term below the rule, such as `from[0].source`.
    #[must_use]
    pub fn field(&self, part: usize, term: usize) -> String {
        let to = usize::from(self.has_from);
        let when = to + usize::from(self.has_to);
        if part < to {
            format!("from[{term}].source")
        } else if part < when {
            format!("to[{term}].operation")
        } else {
            format!("when[{}]", part - when)
        }
    }
}

/// An AuthorizationPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizationPolicy {
    /// Name and age.
    pub meta: Meta,
    /// The workloads it is for; `None` means all of its namespace.
    pub selector: Option<Labels>,
    /// It is attached to a waypoint or gateway, not to workloads.
    pub has_target: bool,
    /// What it does.
    pub action: Action,
    /// Any may match.
    pub rules: Vec<Rule>,
    /// Evaluated and reported, not enforced.
    pub dry_run: bool,
}

// A `Match` holds no floating-point number, so equality is total.
impl Eq for AuthorizationPolicy {}

impl AuthorizationPolicy {
    pub(crate) fn parse(
        mut document: PolicyDocument<AuthorizationSpec>,
    ) -> Result<Self, FieldError> {
        let meta = Meta::namespaced(&mut document.metadata)?;
        let dry_run = is_dry_run(&document.metadata.annotations.unwrap_or_default())?;
        let spec = document.spec.unwrap_or_default();
        let rules = spec.rules.unwrap_or_default();
        let rule = |(i, spec): (usize, &RuleSpec)| {
            rule(&format!("spec.rules[{i}]"), &meta.name.namespace, spec)
        };
        Ok(Self {
            rules: rules
                .iter()
                .enumerate()
                .map(rule)
                .collect::<Result<_, _>>()?,
            selector: spec
                .selector
                .map(|s| s.match_labels)
                .filter(|labels| !labels.is_empty()),
            has_target: spec.target_ref.is_some()
                || spec.target_refs.is_some_and(|targets| !targets.is_empty()),
            action: spec.action.unwrap_or_default(),
            dry_run,
            meta,
        })
    }
}

fn is_dry_run(annotations: &BTreeMap<String, String>) -> Result<bool, FieldError> {
    match annotations.get("istio.io/dry-run").map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(FieldError::new(
            "metadata.annotations[istio.io/dry-run]",
            format!("{other:?} is not a boolean; write \"true\" or \"false\""),
        )),
    }
}

fn rule(field: &str, namespace: &str, spec: &RuleSpec) -> Result<Rule, FieldError> {
    let mut parts = Vec::new();
    if let Some(sources) = &spec.from {
        let at = format!("{field}.from");
        parts.push(part(&at, sources, |i, from| {
            condition::source(&format!("{at}[{i}].source"), namespace, &from.source)
        })?);
    }
    if let Some(operations) = &spec.to {
        let at = format!("{field}.to");
        parts.push(part(&at, operations, |i, to| {
            condition::operation(&format!("{at}[{i}].operation"), &to.operation)
        })?);
    }
    for (i, when) in spec.when.iter().flatten().enumerate() {
        let at = format!("{field}.when[{i}]");
        parts.push(vec![condition::condition(&at, namespace, when)?]);
    }
    Ok(Rule {
        parts,
        has_from: spec.from.is_some(),
        has_to: spec.to.is_some(),
    })
}

fn part<T>(
    field: &str,
    entries: &[T],
    parse: impl Fn(usize, &T) -> Result<Term, FieldError>,
) -> Result<Vec<Term>, FieldError> {
    if entries.is_empty() {
        return Err(FieldError::new(
            field,
            "is an empty list; add an entry or remove the field",
        ));
    }
    entries
        .iter()
        .enumerate()
        .map(|(i, entry)| parse(i, entry))
        .collect()
}
