//! Namespaces and nodes: where workloads are.

use super::document::MetadataDocument;
use super::{FieldError, Meta, ObjectName};

/// A namespace; its labels decide the enrolment of its pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Name and labels.
    pub meta: Meta,
}

impl Namespace {
    /// Reduces the Kubernetes object.
    pub(crate) fn parse(mut namespace: MetadataDocument) -> Result<Self, FieldError> {
        Ok(Self {
            meta: Meta::cluster_wide(&mut namespace.metadata)?,
        })
    }
}

/// Where a node is; each part may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// `topology.kubernetes.io/region`.
    pub region: String,
    /// `topology.kubernetes.io/zone`.
    pub zone: String,
    /// `topology.istio.io/subzone`.
    pub subzone: String,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name and labels.
    pub meta: Meta,
    /// From the node's labels.
    pub locality: Locality,
}

impl Node {
    /// Reduces the Kubernetes object.
    pub(crate) fn parse(mut node: MetadataDocument) -> Result<Self, FieldError> {
        let meta = Meta::cluster_wide(&mut node.metadata)?;
        let label = |key: &str| meta.labels.get(key).cloned().unwrap_or_default();
        let locality = Locality {
            region: label("topology.kubernetes.io/region"),
            zone: label("topology.kubernetes.io/zone"),
            subzone: label("topology.istio.io/subzone"),
        };
        Ok(Self { meta, locality })
    }
}

/// A service account: only its name matters.
pub(crate) fn service_account(mut account: MetadataDocument) -> Result<ObjectName, FieldError> {
    Ok(Meta::namespaced(&mut account.metadata)?.name)
}
