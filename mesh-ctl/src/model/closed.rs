//! What stands in for a policy that cannot be read and of which no good version is known: it denies
//! whatever the policy could be for.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::document::MetadataDocument;
use super::{
    Action, AuthorizationPolicy, FieldError, Labels, Meta, Mode, PeerAuthentication, Rule,
};

impl AuthorizationPolicy {
    /// Denies every connection to the workloads that the policy selects, as far as that can be told;
    /// otherwise to those of its whole namespace. A policy that would not be enforced (for a waypoint, AUDIT,
    /// CUSTOM, dry run) stays so.
    pub(crate) fn closed(document: &Value) -> Result<Self, FieldError> {
        let metadata = &document["metadata"];
        let spec = &document["spec"];
        let targets = spec["targetRefs"].as_array();
        Ok(Self {
            meta: meta(document)?,
            selector: selector(spec),
            has_target: !spec["targetRef"].is_null() || targets.is_some_and(|t| !t.is_empty()),
            action: match Action::deserialize(&spec["action"]) {
                Ok(action @ (Action::Audit | Action::Custom)) => action,
                _ => Action::Deny,
            },
            // A rule without parts matches everything.
            rules: vec![Rule::default()],
            dry_run: metadata["annotations"]["istio.io/dry-run"] == "true",
        })
    }
}

impl PeerAuthentication {
    /// STRICT on every port of the workloads that the policy selects, as far as that can be told;
    /// otherwise of its whole namespace.
    pub(crate) fn closed(document: &Value) -> Result<Self, FieldError> {
        Ok(Self {
            meta: meta(document)?,
            selector: selector(&document["spec"]),
            mode: Mode::Strict,
            ports: BTreeMap::new(),
        })
    }
}

fn meta(document: &Value) -> Result<Meta, FieldError> {
    let parsed = MetadataDocument::deserialize(document);
    let mut metadata = parsed
        .map_err(|e| FieldError::new("metadata", format!("{e}; correct it")))?
        .metadata;
    Meta::namespaced(&mut metadata)
}

/// `None` (all workloads) unless it is surely narrower.
fn selector(spec: &Value) -> Option<Labels> {
    let labels = Labels::deserialize(&spec["selector"]["matchLabels"]).ok()?;
    (!labels.is_empty()).then_some(labels)
}
