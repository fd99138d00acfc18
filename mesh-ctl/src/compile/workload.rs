//! Workloads: every pod that has an address and has not run to its end, by uid.

use std::collections::BTreeMap;

use mesh_common::proto::workload::Workload as Wire;
use mesh_common::proto::workload::{
    Locality, NetworkMode, Port, PortList, TunnelProtocol, WorkloadStatus, WorkloadType,
};

use super::addresses::Claims;
use super::{Listed, Options, alias, encode, octets, service};
use crate::model::{ObjectName, Objects, Pod, Service, Target, selects};
use crate::resources::{Compiled, Resource};

/// The trust domain that an empty field stands for.
const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

pub(super) fn compile(
    objects: &Objects,
    options: &Options,
    policies: &[Listed],
    out: &mut Compiled,
) {
    let live = || {
        objects
            .pods
            .values()
            .filter(|pod| !pod.finished && !pod.addresses.is_empty())
    };
    // Worst claim first: on its way out, then oldest. A reused address belongs to its new pod.
    let mut claimants: Vec<&Pod> = live().filter(|pod| !pod.host_network).collect();
    claimants.sort_by_key(|pod| (!pod.terminating, pod.meta.created, &pod.meta.name));
    let claims = claimants
        .iter()
        .map(|pod| (&pod.meta.name, pod.addresses.as_slice()));
    let claims = Claims::settle("Pod", claims, |line| {
        out.warnings.insert(line);
    });

    let services = services_by_namespace(objects);
    for pod in live() {
        let addresses = match pod.host_network {
            true => pod.addresses.clone(),
            false => claims.kept(&pod.meta.name, &pod.addresses),
        };
        if addresses.is_empty() {
            continue;
        }
        let mut workload = describe(pod, objects, options);
        workload.addresses = addresses.iter().map(|address| octets(*address)).collect();
        let listed = policies.iter().filter(|policy| (policy.selects)(pod));
        workload.authorization_policies = listed.map(|policy| policy.key.to_string()).collect();
        workload.authorization_policies.sort();
        let of_namespace = services.get(&*pod.meta.name.namespace);
        let endpoints = endpoints(pod, of_namespace.map(Vec::as_slice).unwrap_or_default());
        // The address of the node is shared by every pod on its network.
        let aliases = match pod.host_network {
            true => Vec::new(),
            false => addresses.iter().map(|address| alias(*address)).collect(),
        };
        let resource = Resource::new(
            &workload.uid,
            encode::workload(&workload, endpoints),
            aliases,
        );
        out.addresses.insert(resource.name.clone(), resource);
    }
}

fn services_by_namespace(objects: &Objects) -> BTreeMap<&str, Vec<&Service>> {
    let mut services: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
    for service in objects.services.values() {
        services
            .entry(&service.meta.name.namespace)
            .or_default()
            .push(service);
    }
    services
}

fn describe(pod: &Pod, objects: &Objects, options: &Options) -> Wire {
    let name = &pod.meta.name;
    let (workload_type, workload_name) = owner(pod);
    let healthy = pod.ready && !pod.terminating;
    let node = objects.nodes.get(&ObjectName::new("", &pod.node));
    Wire {
        uid: format!(
            "{}//Pod/{}/{}",
            options.cluster_id, name.namespace, name.name
        ),
        name: name.name.to_string(),
        namespace: name.namespace.to_string(),
        tunnel_protocol: match enrolled(pod, objects, options) {
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
        locality: node
            .map(|node| &node.locality)
            .filter(|l| **l != Default::default())
            .map(|l| Locality {
                region: l.region.clone(),
                zone: l.zone.clone(),
                subzone: l.subzone.clone(),
            }),
        network_mode: match pod.host_network {
            true => NetworkMode::HostNetwork,
            false => NetworkMode::Standard,
        }
        .into(),
        ..Wire::default()
    }
}

/// The pod's own label decides; without one, its namespace's. The node's network is never captured.
fn enrolled(pod: &Pod, objects: &Objects, options: &Options) -> bool {
    if pod.host_network {
        return false;
    }
    let key = &options.dataplane_label;
    let namespace = ObjectName::new("", &pod.meta.name.namespace);
    let of_namespace = || objects.namespaces.get(&namespace)?.meta.labels.get(key);
    let mode = pod.meta.labels.get(key).or_else(of_namespace);
    mode.is_some_and(|mode| *mode == options.dataplane_value)
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
    let found = keys.iter().find_map(|key| pod.meta.labels.get(*key));
    found.filter(|value| !value.is_empty()).cloned()
}

/// The name that people know the pod by: that of the Deployment, Job or CronJob behind it.
fn owner(pod: &Pod) -> (WorkloadType, String) {
    let Some(owner) = &pod.owner else {
        return (WorkloadType::Pod, pod.meta.name.name.to_string());
    };
    match owner.kind.as_str() {
        "ReplicaSet" => match deployment(pod, &owner.name) {
            Some(name) => (WorkloadType::Deployment, name.to_owned()),
            None => (WorkloadType::Pod, owner.name.clone()),
        },
        "Deployment" => (WorkloadType::Deployment, owner.name.clone()),
        "Job" => match cron_job(&owner.name) {
            Some(name) => (WorkloadType::Cronjob, name.to_owned()),
            None => (WorkloadType::Job, owner.name.clone()),
        },
        "CronJob" => (WorkloadType::Cronjob, owner.name.clone()),
        _ => (WorkloadType::Pod, owner.name.clone()),
    }
}

/// `web-7d4b9c6f5d` -> `web`: by the hash in the pod's label, else by the look of it.
fn deployment<'a>(pod: &Pod, replica_set: &'a str) -> Option<&'a str> {
    let (name, hash) = replica_set.rsplit_once('-')?;
    match pod.meta.labels.get("pod-template-hash") {
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

fn endpoints(pod: &Pod, services: &[&Service]) -> BTreeMap<String, PortList> {
    let selected = services.iter().filter(|service| {
        service
            .selector
            .as_ref()
            .is_some_and(|selector| selects(selector, &pod.meta.labels))
    });
    let entry = |service: &&Service| {
        let ports: Vec<Port> = service
            .ports
            .iter()
            .filter_map(|port| {
                let target = match &port.target {
                    Target::Number(number) => *number,
                    Target::Named(name) => *pod.ports.get(name)?,
                };
                Some(Port {
                    service_port: port.port.into(),
                    target_port: target.into(),
                    app_protocol: 0,
                })
            })
            .collect();
        // No port of it leads here: the pod is no endpoint.
        let none = ports.is_empty() && !service.ports.is_empty();
        (!none).then(|| (service::key(service), PortList { ports }))
    };
    selected.filter_map(entry).collect()
}
