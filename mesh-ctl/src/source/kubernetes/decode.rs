//! From an object's JSON to what the mesh needs of it. The text is dropped at once.

use serde::Deserialize;
use serde_json::Value;

use super::super::kinds;
use crate::model::{AuthorizationPolicy, Object, ObjectName, PeerAuthentication};

/// One object of a list or an event.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) name: ObjectName,
    /// Changes with every write to the object.
    pub(super) version: Box<str>,
    /// Changes with every write to its `spec`.
    pub(super) generation: i64,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// The mesh uses it.
    Used(Object),
    /// It says nothing to the mesh.
    Unused,
    /// It cannot be used.
    Invalid {
        /// The field and the remedy.
        problem: String,
        /// What takes its place when no good version is known: what denies, for a policy.
        closed: Option<Object>,
    },
}

#[derive(Deserialize)]
struct Envelope {
    metadata: Identity,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    name: String,
    #[serde(default)]
    namespace: String,
    resource_version: Box<str>,
    #[serde(default)]
    generation: i64,
}

/// Reads one object; an error when it does not even have a name.
pub(super) fn decode(kind: &'static str, text: &str) -> Result<Decoded, serde_json::Error> {
    let Identity {
        name,
        namespace,
        resource_version,
        generation,
    } = identity(text)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let outcome = match kinds::typed(kind, &mut deserializer) {
        Ok(Some(object)) => Outcome::Used(object),
        Ok(None) => Outcome::Unused,
        Err(problem) => Outcome::Invalid {
            problem,
            closed: closed(kind, text)?,
        },
    };
    let name = match &outcome {
        // The same text is not kept twice.
        Outcome::Used(object) => object.identity().1.clone(),
        Outcome::Unused | Outcome::Invalid { .. } => ObjectName::new(&namespace, &name),
    };
    Ok(Decoded {
        name,
        version: resource_version,
        generation,
        outcome,
    })
}

/// The name of an object that was deleted, and the version that its deletion made.
pub(super) fn removed(text: &str) -> Result<(ObjectName, Box<str>), serde_json::Error> {
    let identity = identity(text)?;
    let name = ObjectName::new(&identity.namespace, &identity.name);
    Ok((name, identity.resource_version))
}

/// The version that a bookmark tells.
pub(super) fn bookmark(text: &str) -> Result<String, serde_json::Error> {
    #[derive(Deserialize)]
    struct Bookmark {
        metadata: Version,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        resource_version: String,
    }
    let bookmark: Bookmark = serde_json::from_str(text)?;
    Ok(bookmark.metadata.resource_version)
}

fn identity(text: &str) -> Result<Identity, serde_json::Error> {
    serde_json::from_str::<Envelope>(text).map(|envelope| envelope.metadata)
}

fn closed(kind: &str, text: &str) -> Result<Option<Object>, serde_json::Error> {
    let document = || serde_json::from_str::<Value>(text);
    // The API server has checked the name: a stand-in can be made for every policy.
    Ok(match kind {
        "AuthorizationPolicy" => AuthorizationPolicy::closed(&document()?)
            .ok()
            .map(|policy| Object::AuthorizationPolicy(Box::new(policy))),
        "PeerAuthentication" => PeerAuthentication::closed(&document()?)
            .ok()
            .map(|policy| Object::PeerAuthentication(Box::new(policy))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Action, Mode};

    fn policy(kind: &str, spec: &str) -> String {
        format!(
            r#"{{"apiVersion": "security.istio.io/v1", "kind": "{kind}",
                "metadata": {{"name": "p", "namespace": "shop", "resourceVersion": "7", "generation": 3,
                    "managedFields": [{{"manager": "x"}}]}},
                "spec": {spec}}}"#
        )
    }

    fn stand_in(kind: &'static str, spec: &str) -> (String, Object) {
        match decode(kind, &policy(kind, spec)).unwrap().outcome {
            Outcome::Invalid { problem, closed } => (problem, closed.unwrap()),
            other => panic!("it is not invalid: {other:?}"),
        }
    }

    fn authorization(spec: &str) -> (String, AuthorizationPolicy) {
        match stand_in("AuthorizationPolicy", spec) {
            (problem, Object::AuthorizationPolicy(policy)) => (problem, *policy),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_invalid_policy_denies_what_it_selects() {
        let spec = r#"{"selector": {"matchLabels": {"app": "web"}},
            "rules": [{"to": [{"operation": {"ports": ["0"]}}]}]}"#;
        let (problem, policy) = authorization(spec);
        assert!(
            problem.starts_with("field spec.rules[0].to[0].operation.ports[0]:"),
            "{problem}"
        );
        assert_eq!(policy.action, Action::Deny);
        assert_eq!(policy.selector.unwrap()["app"], "web");
        assert!(policy.rules.len() == 1 && policy.rules[0].parts.is_empty());
    }

    #[test]
    fn an_invalid_policy_denies_all_when_its_selector_is_unclear() {
        for selector in [
            r#"{"matchLabels": {"app": 1}}"#,
            r#"{"matchLables": {}}"#,
            r#""app""#,
        ] {
            let (_, policy) = authorization(&format!(r#"{{"selector": {selector}}}"#));
            assert_eq!((policy.action, policy.selector), (Action::Deny, None));
        }
    }

    #[test]
    fn an_invalid_policy_that_would_not_be_enforced_is_not() {
        let (_, policy) = authorization(r#"{"action": "AUDIT", "ruels": []}"#);
        assert_eq!(policy.action, Action::Audit);
        let spec = r#"{"targetRefs": [{"kind": "Gateway", "name": "w"}], "ruels": []}"#;
        assert!(authorization(spec).1.has_target);
    }

    #[test]
    fn an_invalid_peer_authentication_is_strict() {
        let spec = r#"{"mtls": {"mode": "PERMISIVE"}}"#;
        let (problem, object) = stand_in("PeerAuthentication", spec);
        assert!(problem.starts_with("field spec.mtls.mode:"), "{problem}");
        let Object::PeerAuthentication(policy) = object else {
            panic!("{object:?}");
        };
        assert_eq!((policy.mode, policy.selector), (Mode::Strict, None));
    }

    #[test]
    fn what_names_an_object_is_found_beside_its_content() {
        let text = policy("AuthorizationPolicy", "{}");
        let decoded = decode("AuthorizationPolicy", &text).unwrap();
        assert_eq!(decoded.name.to_string(), "shop/p");
        assert_eq!((&*decoded.version, decoded.generation), ("7", 3));
        assert!(matches!(decoded.outcome, Outcome::Used(_)));
        assert!(decode("Pod", "{}").is_err());
    }
}
