//! Who is in the mesh, for those that capture pods: a resource for each node, and one for all namespaces.
//!
//! Pods are listed from the moment they are scheduled, before they have an address: a node knows of a pod
//! before its first process runs.

use std::sync::Arc;

use mesh_common::proto::weft::enrolment::{Enrolment, Pod as Wire};
use prost::Message as _;

use super::store::{Pod, Store};
use super::{Options, octets, workload};
use crate::resources::{Kind, Resource};

/// The pods of a node, in the mesh or not; `None` when there is none.
pub(super) fn of_node(
    node: &str,
    store: &Store,
    options: &Options,
) -> (Arc<str>, Option<Resource>) {
    let name: Arc<str> = format!("node/{node}").into();
    let has_network = |pod: &&Arc<Pod>| !pod.host_network && !pod.finished;
    let mut pods: Vec<&Arc<Pod>> = store
        .pods_of_node(node)
        .iter()
        .filter(has_network)
        .collect();
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    let wire = |pod: &Arc<Pod>| Wire {
        uid: pod.uid.to_string(),
        namespace: pod.name.namespace.to_string(),
        name: pod.name.name.to_string(),
        enrolled: workload::enrolled(pod, store, options),
        addresses: pod.addresses.iter().map(|a| octets(*a)).collect(),
    };
    let resource = (!pods.is_empty()).then(|| {
        let enrolment = Enrolment {
            pods: pods.into_iter().map(wire).collect(),
            ..Enrolment::default()
        };
        resource(&name, &enrolment)
    });
    (name, resource)
}

/// The namespaces whose pods are in the mesh unless they say otherwise; `None` when there is none.
pub(super) fn of_namespaces(store: &Store, options: &Options) -> (Arc<str>, Option<Resource>) {
    let meshed = store.namespaces.iter().filter(|(_, namespace)| {
        workload::mode(namespace, options).is_some_and(|mode| mode == options.dataplane_value)
    });
    let namespaces: Vec<String> = meshed.map(|(name, _)| name.name.to_string()).collect();
    let name: Arc<str> = "namespaces".into();
    let resource = (!namespaces.is_empty()).then(|| {
        let enrolment = Enrolment {
            namespaces,
            ..Enrolment::default()
        };
        resource(&name, &enrolment)
    });
    (name, resource)
}

fn resource(name: &str, enrolment: &Enrolment) -> Resource {
    Resource::new(Kind::Enrolment, name, enrolment.encode_to_vec(), Vec::new())
}
