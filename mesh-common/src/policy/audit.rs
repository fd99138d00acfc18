//! AUDIT policies on the wire, which has no such action.
//!
//! Such a policy travels as a DENY policy without rules, which matches nothing wherever it is read, and its
//! rules are in an extension that is named here.

use prost::Message as _;

use crate::decode::FieldError;
use crate::proto::security::{Action, Authorization, Rule};
use crate::proto::weft::policy::AuditedRules;
use crate::proto::workload::Extension;

/// The extension's name.
const NAME: &str = "weft.policy.audit";
/// The type of its content.
const TYPE_URL: &str = "type.googleapis.com/weft.policy.AuditedRules";

impl Authorization {
    /// Makes this an AUDIT policy of the rules that it has.
    #[must_use]
    pub fn into_audit(self) -> Self {
        let audited = AuditedRules { rules: self.rules };
        let config = prost_types::Any {
            type_url: TYPE_URL.into(),
            value: audited.encode_to_vec(),
        };
        let mut extensions = self.extensions;
        extensions.push(Extension {
            name: NAME.into(),
            config: Some(config),
        });
        Self {
            action: Action::Deny.into(),
            rules: Vec::new(),
            extensions,
            ..self
        }
    }
}

/// The rules of an AUDIT policy; none when it is another kind of policy. Extensions with other names are
/// left alone: they belong to others.
pub(super) fn rules(from: &Authorization) -> Result<Option<Vec<Rule>>, FieldError> {
    let Some(at) = from
        .extensions
        .iter()
        .position(|extension| extension.name == NAME)
    else {
        return Ok(None);
    };
    let wrong = |why: &str| FieldError::new(format_args!("extensions[{at}]"), why);
    if !from.rules.is_empty() || from.action != i32::from(Action::Deny) {
        return Err(wrong("an AUDIT policy is a DENY policy without rules"));
    }
    let config = from
        .extensions
        .get(at)
        .and_then(|extension| extension.config.as_ref());
    let audited = config
        .filter(|config| config.type_url == TYPE_URL)
        .and_then(|config| AuditedRules::decode(&*config.value).ok())
        .ok_or_else(|| wrong("its rules cannot be read"))?;
    Ok(Some(audited.rules))
}
