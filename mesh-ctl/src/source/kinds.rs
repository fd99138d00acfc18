//! Types a document: which kinds Weft uses, which it knows and ignores, and which are mistakes.

use k8s_openapi::api::core::v1;
use serde::de::DeserializeOwned;
use serde_norway::{Mapping, Value};

use super::document::Document;
use crate::model::{
    AuthorizationPolicy, EndpointSlice, FieldError, Namespace, Node, Object, ObjectName,
    PeerAuthentication, Pod, Service,
};

/// Kinds of the core group that Weft has no use for.
const OTHER_CORE: [&str; 14] = [
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Endpoints",
    "Event",
    "LimitRange",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "Eviction",
    "Status",
];
const USED_CORE: [&str; 5] = ["Namespace", "Node", "Pod", "Service", "ServiceAccount"];
const SECURITY: [&str; 3] = [
    "AuthorizationPolicy",
    "PeerAuthentication",
    "RequestAuthentication",
];
const SECURITY_GROUP: &str = "security.istio.io/";
const DISCOVERY_GROUP: &str = "discovery.k8s.io/";

/// `Kind namespace/name`, for messages; the name may be missing.
pub(super) fn describe(document: &Document) -> String {
    let metadata = |key: &str| {
        document
            .value
            .get("metadata")
            .and_then(|m| m.get(key))
            .and_then(Value::as_str)
    };
    match (metadata("namespace"), metadata("name")) {
        (Some(namespace), Some(name)) => format!("{} {namespace}/{name}", document.kind),
        (None, Some(name)) if ["Namespace", "Node"].contains(&document.kind.as_str()) => {
            format!("{} {name}", document.kind)
        }
        (None, Some(name)) => format!("{} default/{name}", document.kind),
        (_, None) => document.kind.clone(),
    }
}

/// The object, `None` for a kind that Weft does not use, or what is wrong with it.
pub(super) fn object(document: Document) -> Result<Option<Object>, String> {
    let Document {
        api_version,
        kind,
        value,
        ..
    } = document;
    if let Some(version) = api_version.strip_prefix(SECURITY_GROUP) {
        if !["v1", "v1beta1"].contains(&version) {
            return Err(format!(
                "apiVersion {api_version:?} is not supported; write {SECURITY_GROUP}v1"
            ));
        }
        return security(&kind, value);
    }
    if let Some(version) = api_version.strip_prefix(DISCOVERY_GROUP) {
        return discovery(version, &kind, value);
    }
    if SECURITY.contains(&kind.as_str()) {
        return Err(format!(
            "apiVersion {api_version:?} has no {kind}; write {SECURITY_GROUP}v1"
        ));
    }
    if api_version != "v1" {
        return Ok(None);
    }
    let text = |e: FieldError| e.to_string();
    Ok(match kind.as_str() {
        "Namespace" => {
            let value = keep(value, &["apiVersion", "kind", "metadata"]);
            Some(Object::Namespace(
                Namespace::from_k8s(typed(value)?).map_err(text)?,
            ))
        }
        "Node" => {
            let value = keep(value, &["apiVersion", "kind", "metadata"]);
            Some(Object::Node(Node::from_k8s(typed(value)?).map_err(text)?))
        }
        "ServiceAccount" => {
            let account: v1::ServiceAccount =
                typed(keep(value, &["apiVersion", "kind", "metadata"]))?;
            let name = account.metadata.name.unwrap_or_default();
            let namespace = account
                .metadata
                .namespace
                .unwrap_or_else(|| "default".into());
            if name.is_empty() {
                return Err("field metadata.name: is missing; give the object a name".into());
            }
            Some(Object::ServiceAccount(ObjectName::new(&namespace, &name)))
        }
        "Pod" => Some(Object::Pod(Box::new(
            Pod::from_k8s(typed(prune_pod(value))?).map_err(text)?,
        ))),
        "Service" => Service::from_k8s(typed(value)?)
            .map_err(text)?
            .map(|service| Object::Service(Box::new(service))),
        other if OTHER_CORE.contains(&other) => None,
        other => {
            return Err(unknown(
                other,
                "v1",
                &[&USED_CORE[..], &OTHER_CORE[..]].concat(),
            ));
        }
    })
}

fn discovery(version: &str, kind: &str, value: Value) -> Result<Option<Object>, String> {
    if !["v1", "v1beta1"].contains(&version) {
        return Err(format!(
            "apiVersion \"{DISCOVERY_GROUP}{version}\" is not supported; write {DISCOVERY_GROUP}v1"
        ));
    }
    if kind != "EndpointSlice" {
        return Err(unknown(kind, "discovery.k8s.io", &["EndpointSlice"]));
    }
    let slice = EndpointSlice::parse(typed(value)?).map_err(|e| e.to_string())?;
    Ok(slice.map(|slice| Object::EndpointSlice(Box::new(slice))))
}

fn security(kind: &str, value: Value) -> Result<Option<Object>, String> {
    Ok(match kind {
        "AuthorizationPolicy" => {
            let policy = AuthorizationPolicy::parse(typed(value)?).map_err(|e| e.to_string())?;
            Some(Object::AuthorizationPolicy(Box::new(policy)))
        }
        "PeerAuthentication" => {
            let policy = PeerAuthentication::parse(typed(value)?).map_err(|e| e.to_string())?;
            Some(Object::PeerAuthentication(Box::new(policy)))
        }
        // For waypoints: tokens are an L7 matter.
        "RequestAuthentication" => None,
        other => return Err(unknown(other, "security.istio.io", &SECURITY)),
    })
}

fn unknown(kind: &str, group: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .min_by_key(|candidate| distance(kind, candidate));
    match nearest {
        Some(nearest) if distance(kind, nearest) <= 3 => {
            format!("kind {kind:?} is unknown in {group}; did you mean {nearest}?")
        }
        _ => format!(
            "kind {kind:?} is unknown in {group}; known are {}",
            known.join(", ")
        ),
    }
}

/// How many letters must be inserted, removed or replaced to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|e| {
        let path = e.path().to_string();
        format!("field {path}: {}; correct or remove it", e.inner())
    })
}

/// Keeps only what Weft reads, so that an unusual value elsewhere in a pod is no problem of ours.
fn prune_pod(value: Value) -> Value {
    let mut pod = keep(value, &["apiVersion", "kind", "metadata", "spec", "status"]);
    apply(&mut pod, "spec", |spec| {
        let spec_fields = [
            "serviceAccountName",
            "serviceAccount",
            "nodeName",
            "hostNetwork",
            "containers",
            "initContainers",
        ];
        let mut spec = keep(spec, &spec_fields);
        for list in ["containers", "initContainers"] {
            apply(&mut spec, list, |containers| match containers {
                Value::Sequence(containers) => containers
                    .into_iter()
                    .map(|container| keep(container, &["name", "ports", "restartPolicy"]))
                    .collect(),
                other => other,
            });
        }
        spec
    });
    apply(&mut pod, "status", |status| {
        keep(status, &["phase", "podIP", "podIPs", "conditions"])
    });
    pod
}

fn keep(value: Value, fields: &[&str]) -> Value {
    match value {
        Value::Mapping(mapping) => Value::Mapping(
            mapping
                .into_iter()
                .filter(|(key, _)| key.as_str().is_none_or(|key| fields.contains(&key)))
                .collect::<Mapping>(),
        ),
        other => other,
    }
}

fn apply(value: &mut Value, key: &str, change: impl FnOnce(Value) -> Value) {
    if let Some(field) = value.get_mut(key) {
        let old = std::mem::replace(field, Value::Null);
        *field = change(old);
    }
}
