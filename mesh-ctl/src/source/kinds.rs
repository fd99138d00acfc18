//! Types a document: which kinds Weft uses, which it knows and ignores, and which are mistakes.

use mesh_common::suggest;
use serde::{Deserialize, Deserializer};
use serde_norway::Value;

use super::document::Document;
use crate::model::{
    self, AuthorizationPolicy, EndpointSlice, FieldError, Namespace, Node, Object,
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
    let group = if let Some(version) = api_version.strip_prefix(SECURITY_GROUP) {
        if !["v1", "v1beta1"].contains(&version) {
            return Err(format!(
                "apiVersion {api_version:?} is not supported; write {SECURITY_GROUP}v1"
            ));
        }
        Group {
            name: "security.istio.io",
            used: &["AuthorizationPolicy", "PeerAuthentication"],
            // For waypoints: tokens are an L7 matter.
            ignored: &["RequestAuthentication"],
        }
    } else if let Some(version) = api_version.strip_prefix(DISCOVERY_GROUP) {
        if !["v1", "v1beta1"].contains(&version) {
            return Err(format!(
                "apiVersion {api_version:?} is not supported; write {DISCOVERY_GROUP}v1"
            ));
        }
        Group {
            name: "discovery.k8s.io",
            used: &["EndpointSlice"],
            ignored: &[],
        }
    } else if SECURITY.contains(&kind.as_str()) {
        return Err(format!(
            "apiVersion {api_version:?} has no {kind}; write {SECURITY_GROUP}v1"
        ));
    } else if api_version == "v1" {
        Group {
            name: "v1",
            used: &USED_CORE,
            ignored: &OTHER_CORE,
        }
    } else {
        return Ok(None);
    };
    if group.used.contains(&kind.as_str()) {
        typed(&kind, value)
    } else if group.ignored.contains(&kind.as_str()) {
        Ok(None)
    } else {
        Err(unknown(&kind, &group))
    }
}

struct Group {
    name: &'static str,
    used: &'static [&'static str],
    ignored: &'static [&'static str],
}

/// The object of a kind that Weft uses, from any format. `None` for one that says nothing to the mesh.
pub(super) fn typed<'de, D: Deserializer<'de>>(
    kind: &str,
    document: D,
) -> Result<Option<Object>, String> {
    let text = |e: FieldError| e.to_string();
    Ok(match kind {
        "Namespace" => Some(Object::Namespace(
            Namespace::parse(read(document)?).map_err(text)?,
        )),
        "Node" => Some(Object::Node(Node::parse(read(document)?).map_err(text)?)),
        "ServiceAccount" => Some(Object::ServiceAccount(
            model::service_account(read(document)?).map_err(text)?,
        )),
        "Pod" => Some(Object::Pod(Box::new(
            Pod::parse(read(document)?).map_err(text)?,
        ))),
        "Service" => Service::parse(read(document)?)
            .map_err(text)?
            .map(|service| Object::Service(Box::new(service))),
        "EndpointSlice" => EndpointSlice::parse(read(document)?)
            .map_err(text)?
            .map(|slice| Object::EndpointSlice(Box::new(slice))),
        "AuthorizationPolicy" => Some(Object::AuthorizationPolicy(Box::new(
            AuthorizationPolicy::parse(read(document)?).map_err(text)?,
        ))),
        "PeerAuthentication" => Some(Object::PeerAuthentication(Box::new(
            PeerAuthentication::parse(read(document)?).map_err(text)?,
        ))),
        _ => None,
    })
}

fn unknown(kind: &str, group: &Group) -> String {
    let known = [group.used, group.ignored].concat();
    let group = group.name;
    match suggest::nearest(kind, known.iter().copied()) {
        Some(nearest) => format!("kind {kind:?} is unknown in {group}; did you mean {nearest}?"),
        None => format!(
            "kind {kind:?} is unknown in {group}; known are {}",
            known.join(", ")
        ),
    }
}

fn read<'de, T: Deserialize<'de>, D: Deserializer<'de>>(document: D) -> Result<T, String> {
    serde_path_to_error::deserialize(document).map_err(|e| {
        let path = e.path().to_string();
        format!("field {path}: {}; correct or remove it", e.inner())
    })
}
