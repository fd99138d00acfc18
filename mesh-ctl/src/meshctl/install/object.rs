//! Objects of any kind.

use std::fmt;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::InstallError;

/// Every object that Weft ships has this label.
pub(super) const PART_OF: &str = "app.kubernetes.io/part-of";
/// With this value.
pub(super) const WEFT: &str = "weft";

/// What an object is told by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Id {
    /// `DaemonSet`.
    pub kind: String,
    /// None of what belongs to the whole cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Id {
    /// Of that object.
    pub fn of(object: &DynamicObject) -> Self {
        Self {
            kind: kind(object).to_owned(),
            namespace: object.metadata.namespace.clone(),
            name: object.metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, .. } = self;
        match &self.namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{name}"),
            None => write!(f, "{kind} {name}"),
        }
    }
}

/// Its kind.
pub(super) fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| &types.kind)
}

/// Whether it has Weft's label.
pub(super) fn is_ours(object: &DynamicObject) -> bool {
    let labels = object.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.get(PART_OF).is_some_and(|value| value == WEFT))
}

/// Where the API server serves that kind.
pub(super) fn resource(api_version: &str, kind: &str) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// The objects of its kind, where it is.
pub(super) fn api(client: &Client, object: &DynamicObject) -> Api<DynamicObject> {
    let types = object.types.clone().unwrap_or_default();
    let resource = resource(&types.api_version, &types.kind);
    match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Changes an object of that type; everything else of it stays.
pub(super) fn edit<K: Serialize + DeserializeOwned>(
    object: &mut DynamicObject,
    change: impl FnOnce(&mut K) -> Result<(), InstallError>,
) -> Result<(), InstallError> {
    let id = Id::of(object);
    let unusable = |e: serde_json::Error| InstallError::Manifest(format!("{id}: {e}"));
    let value = serde_json::to_value(&*object).map_err(unusable)?;
    let mut typed: K = serde_json::from_value(value).map_err(unusable)?;
    change(&mut typed)?;
    let value = serde_json::to_value(typed).map_err(unusable)?;
    *object = serde_json::from_value(value).map_err(unusable)?;
    Ok(())
}
