//! Kubernetes objects as they are written, as far as Weft reads them. Other fields are skipped, so that an
//! unusual value in them is no problem here and costs nothing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

use super::Labels;

/// `metadata` of any object.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) uid: Option<String>,
    pub(crate) labels: Option<Labels>,
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    pub(crate) creation_timestamp: Option<Time>,
    pub(crate) deletion_timestamp: Option<Time>,
    pub(crate) owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Clone, Deserialize)]
pub(crate) struct OwnerReference {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) controller: Option<bool>,
}

/// An object of which only the metadata matters.
#[derive(Deserialize)]
pub(crate) struct MetadataDocument {
    #[serde(default)]
    pub(crate) metadata: Metadata,
}

/// `v1` Service.
#[derive(Deserialize)]
pub(crate) struct ServiceDocument {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    pub(crate) spec: Option<k8s_openapi::api::core::v1::ServiceSpec>,
}

/// `v1` Pod.
#[derive(Deserialize)]
pub(crate) struct PodDocument {
    #[serde(default)]
    pub(crate) metadata: Metadata,
    pub(crate) spec: Option<PodSpec>,
    pub(crate) status: Option<PodStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) service_account_name: Option<String>,
    pub(crate) service_account: Option<String>,
    pub(crate) node_name: Option<String>,
    pub(crate) host_network: Option<bool>,
    pub(crate) containers: Option<Vec<Container>>,
    pub(crate) init_containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) ports: Option<Vec<ContainerPort>>,
    pub(crate) restart_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerPort {
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) container_port: i64,
    pub(crate) protocol: Option<String>,
}

#[derive(Default, Deserialize)]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Option<Vec<PodAddress>>,
    pub(crate) conditions: Option<Vec<PodCondition>>,
}

#[derive(Deserialize)]
pub(crate) struct PodAddress {
    #[serde(default)]
    pub(crate) ip: String,
}

#[derive(Deserialize)]
pub(crate) struct PodCondition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
}
