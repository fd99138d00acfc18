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

impl Authorization {
    /// The rules of an AUDIT policy; none when it is another kind of policy, or when they cannot be read.
    /// Extensions with other names are left alone: they belong to others.
    #[must_use]
    pub fn audited(&self) -> Option<Vec<Rule>> {
        let config = extension(self)?.config.as_ref()?;
        let audited = AuditedRules::decode(&*config.value).ok()?;
        (config.type_url == TYPE_URL).then_some(audited.rules)
    }
}

fn extension(policy: &Authorization) -> Option<&Extension> {
    policy
        .extensions
        .iter()
        .find(|extension| extension.name == NAME)
}

/// The rules of an AUDIT policy; none when it is another kind of policy.
pub(super) fn rules(from: &Authorization) -> Result<Option<Vec<Rule>>, FieldError> {
    if extension(from).is_none() {
        return Ok(None);
    }
    let why = match from.audited() {
        Some(rules) if from.rules.is_empty() && from.action == i32::from(Action::Deny) => {
            return Ok(Some(rules));
        }
        Some(_) => "an AUDIT policy is a DENY policy without rules, and this is not one",
        None => "the rules of the AUDIT policy cannot be read",
    };
    Err(FieldError::new("extensions", why))
}
