//! Endpoints that EndpointSlices list for a service without a selector. One that is a pod's address
//! makes the pod an endpoint; any other is a workload of its own, outside the mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mesh_common::proto::workload::Workload as Wire;
use mesh_common::proto::workload::{
    Locality, PortList, TunnelProtocol, WorkloadStatus, WorkloadType,
};

use super::store::Store;
use super::{Options, alias, encode, octets, workload};
use crate::resources::{Kind, Resource};

/// The services that list the address, with the ports that lead to it.
pub(super) fn services(address: IpAddr, store: &Store) -> BTreeMap<String, PortList> {
    let listings = store.listings(address);
    let entry = |(slice, _, service): (&crate::model::EndpointSlice, _, _)| {
        workload::entry(service, |port| {
            let target = slice.ports.get(&port.name)?;
            Some(target.unwrap_or(port.port))
        })
    };
    listings.filter_map(entry).collect()
}

/// The workload at the address; `None` when a pod has it, or no slice lists it.
pub(super) fn compile(address: IpAddr, store: &Store, options: &Options) -> Option<Resource> {
    if !store.claimants(address).is_empty() {
        return None;
    }
    let (slice, endpoint, _) = store.listings(address).next()?;
    let namespace = &slice.meta.name.namespace;
    let is_ready = store
        .listings(address)
        .any(|(_, e, _)| e.ready && !e.terminating);
    let of_zone = || {
        (!endpoint.zone.is_empty()).then(|| Locality {
            zone: endpoint.zone.to_string(),
            ..Locality::default()
        })
    };
    let name = address.to_string();
    let uid = format!(
        "{}/discovery.k8s.io/EndpointSlice/{namespace}/{name}",
        options.cluster_id
    );
    let wire = Wire {
        uid: uid.clone(),
        name: name.clone(),
        namespace: namespace.to_string(),
        addresses: vec![octets(address)],
        tunnel_protocol: TunnelProtocol::None.into(),
        node: endpoint.node.to_string(),
        canonical_name: slice.service.name.to_string(),
        canonical_revision: "latest".into(),
        workload_type: WorkloadType::Pod.into(),
        workload_name: slice.service.name.to_string(),
        status: match is_ready {
            true => WorkloadStatus::Healthy,
            false => WorkloadStatus::Unhealthy,
        }
        .into(),
        cluster_id: options.cluster_id.clone(),
        locality: workload::locality(&endpoint.node, store).or_else(of_zone),
        ..Wire::default()
    };
    let body = encode::workload(&wire, services(address, store));
    Some(Resource::new(
        Kind::Address,
        &uid,
        body,
        vec![alias(address)],
    ))
}
