//! Workloads: every pod that has an address and has not run to its end, by uid.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesh_common::proto::workload::Workload as Wire;
use mesh_common::proto::workload::{
    Locality, NetworkMode, Port, PortList, TunnelProtocol, WorkloadStatus, WorkloadType,
};

use super::peer_authentication::Levels;
use super::store::{Pod, Store};
use super::{Options, alias, authorization, encode, endpoint, octets, service};
use crate::model::{Namespace, ObjectName, Service, ServicePort, Target};
use crate::resources::{Kind, Resource};

/// The trust domain that an empty field stands for.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// The workload by its uid; `None` when there is none.
pub(super) fn compile(
    name: &ObjectName,
    store: &Store,
    options: &Options,
    levels: &Levels,
) -> (Arc<str>, Option<Resource>) {
    let uid: Arc<str> = format!("{}//Pod/{name}", options.cluster_id).into();
    let pod = store.pod(name).filter(|pod| pod.is_live());
    let resource = pod.and_then(|pod| resource(&uid, pod, store, options, levels));
    (uid, resource)
}

fn resource(
    uid: &str,
    pod: &Pod,
    store: &Store,
    options: &Options,
    levels: &Levels,
) -> Option<Resource> {
    let keeps = |address: &&IpAddr| {
        let claimants = store.claimants(**address);
        claimants.last().is_some_and(|owner| owner.name == pod.name)
    };
    let own: Vec<IpAddr> = match pod.host_network {
        // The address of the node is shared by every pod on its network.
        true => Vec::new(),
        false => pod.addresses.iter().filter(keeps).copied().collect(),
    };
    let addresses = match pod.host_network {
        true => &pod.addresses[..],
        false => &own[..],
    };
    if addresses.is_empty() {
        return None;
    }
    let mut workload = describe(uid, pod, store, options);
    workload.addresses = addresses.iter().map(|address| octets(*address)).collect();
    let mut policies = authorization::listed(pod, store);
    policies.extend(levels.listed(pod, store));
    policies.sort();
    workload.authorization_policies = policies;
    let mut services = endpoints(pod, store);
    for address in &own {
        services.extend(endpoint::services(*address, store));
    }
    Some(Resource::new(
        Kind::Address,
        uid,
        encode::workload(&workload, services),
        own.iter().map(|address| alias(*address)).collect(),
    ))
}

fn describe(uid: &str, pod: &Pod, store: &Store, options: &Options) -> Wire {
    let name = &pod.name;
    let (workload_type, workload_name) = owner(pod);
    let healthy = pod.ready && !pod.terminating;
    Wire {
        uid: uid.to_owned(),
        name: name.name.to_string(),
        namespace: name.namespace.to_string(),
        tunnel_protocol: match enrolled(pod, store, options) {
            true => TunnelProtocol::Hbone,
            false => TunnelProtocol::None,
        }
        .into(),
        trust_domain: match options.trust_domain.as_str() {
            DEFAULT_TRUST_DOMAIN => String::new(),
            other => other.to_owned(),
        },
        service_account: pod.service_account.to_string(),
        node: pod.node.to_string(),
        canonical_name: label(pod, &CANONICAL_NAME).unwrap_or_else(|| workload_name.clone()),
        canonical_revision: label(pod, &CANONICAL_REVISION).unwrap_or_else(|| "latest".into()),
        workload_type: workload_type.into(),
        workload_name,
        status: match healthy {
            true => WorkloadStatus::Healthy,
            false => WorkloadStatus::Unhealthy,
        }
        .into(),
        cluster_id: options.cluster_id.clone(),
        locality: locality(&pod.node, store),
        network_mode: match pod.host_network {
            true => NetworkMode::HostNetwork,
            false => NetworkMode::Standard,
        }
        .into(),
        ..Wire::default()
    }
}

/// Where a node is, as far as that is known.
pub(super) fn locality(node: &str, store: &Store) -> Option<Locality> {
    let node = store.nodes.get(&ObjectName::new("", node))?;
    let place = &node.locality;
    (*place != Default::default()).then(|| Locality {
        region: place.region.clone(),
        zone: place.zone.clone(),
        subzone: place.subzone.clone(),
    })
}

/// The pod's own label decides; without one, its namespace's. The node's network is never captured.
pub(super) fn enrolled(pod: &Pod, store: &Store, options: &Options) -> bool {
    if pod.host_network {
        return false;
    }
    let key = &options.dataplane_label;
    let of_namespace = || {
        let name = ObjectName::new("", &pod.name.namespace);
        mode(store.namespaces.get(&name)?, options)
    };
    let mode = pod.label(key).or_else(of_namespace);
    mode.is_some_and(|mode| *mode == options.dataplane_value)
}

/// What a namespace says of its pods.
pub(super) fn mode<'a>(namespace: &'a Namespace, options: &Options) -> Option<&'a str> {
    let labels = &namespace.meta.labels;
    labels.get(&options.dataplane_label).map(String::as_str)
}

const CANONICAL_NAME: [&str; 3] = [
    "service.istio.io/canonical-name",
    "app.kubernetes.io/name",
    "app",
];
const CANONICAL_REVISION: [&str; 3] = [
    "service.istio.io/canonical-revision",
    "app.kubernetes.io/version",
    "version",
];

fn label(pod: &Pod, keys: &[&str]) -> Option<String> {
    let found = keys.iter().find_map(|key| pod.label(key));
    found
        .filter(|value| !value.is_empty())
        .map(ToOwned::to_owned)
}

/// The name that people know the pod by: that of the Deployment, Job or CronJob behind it.
fn owner(pod: &Pod) -> (WorkloadType, String) {
    let Some((kind, name)) = &pod.owner else {
        return (WorkloadType::Pod, pod.name.name.to_string());
    };
    let itself = || name.to_string();
    match &**kind {
        "ReplicaSet" => match deployment(pod, name) {
            Some(name) => (WorkloadType::Deployment, name.to_owned()),
            None => (WorkloadType::Pod, itself()),
        },
        "Deployment" => (WorkloadType::Deployment, itself()),
        "Job" => match cron_job(name) {
            Some(name) => (WorkloadType::Cronjob, name.to_owned()),
            None => (WorkloadType::Job, itself()),
        },
        "CronJob" => (WorkloadType::Cronjob, itself()),
        _ => (WorkloadType::Pod, itself()),
    }
}

/// `web-7d4b9c6f5d` -> `web`: by the hash in the pod's label, else by the look of it.
fn deployment<'a>(pod: &Pod, replica_set: &'a str) -> Option<&'a str> {
    let (name, hash) = replica_set.rsplit_once('-')?;
    match pod.label("pod-template-hash") {
        Some(label) => (label == hash).then_some(name),
        // Kubernetes encodes hashes without vowels and without 0, 1 and 3.
        None => {
            let encoded = hash
                .chars()
                .all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c));
            ((5..=10).contains(&hash.len()) && encoded).then_some(name)
        }
    }
}

/// `backup-28954321` -> `backup`: a CronJob appends the minute of the run.
fn cron_job(job: &str) -> Option<&str> {
    let (name, minute) = job.rsplit_once('-')?;
    let is_minute = (8..=10).contains(&minute.len()) && minute.chars().all(|c| c.is_ascii_digit());
    is_minute.then_some(name)
}

/// The services that select the pod, with the ports that lead to it.
fn endpoints(pod: &Pod, store: &Store) -> BTreeMap<String, PortList> {
    let candidates = store
        .service_selectors
        .candidates(&pod.name.namespace, &pod.labels);
    let services = candidates
        .into_iter()
        .filter_map(|name| store.services.get(name));
    let selected = services.filter(|service| {
        let selector = service.selector.as_ref();
        selector.is_some_and(|selector| pod.is_selected(selector))
    });
    let target = |target: &Target| match target {
        Target::Number(number) => Some(*number),
        Target::Named(name) => pod.port(name),
    };
    selected
        .filter_map(|service| entry(service, |port| target(&port.target)))
        .collect()
}

/// How a workload lists a service; `None` when no port of the service leads to it.
pub(super) fn entry(
    service: &Service,
    target: impl Fn(&ServicePort) -> Option<u16>,
) -> Option<(String, PortList)> {
    let port = |port: &ServicePort| {
        Some(Port {
            service_port: port.port.into(),
            target_port: target(port)?.into(),
            app_protocol: 0,
        })
    };
    let ports: Vec<Port> = service.ports.iter().filter_map(port).collect();
    let none = ports.is_empty() && !service.ports.is_empty();
    (!none).then(|| (service::key(&service.meta.name), PortList { ports }))
}
